"""Serves the logs of running tasks to Airflow's API server, on the loopback address.

Airflow asks the host of each running task for its log. The server that `airflow scheduler` starts for this listens on
every address of the machine, so the scheduler starts none, and the same program of Airflow's is started here. It only
answers requests that are signed with the API server's key.
"""

from __future__ import annotations

from init.local.layout import Layout
from init.local.ports import LOOPBACK

LOG_SERVER = "airflow-log-server"


def log_server_command(layout: Layout, port: int) -> list[str]:
    """The command that serves the logs below AIRFLOW_HOME."""
    serve = ["--factory", "airflow.utils.serve_logs.log_server:get_app", "--host", LOOPBACK, "--port", str(port)]
    quiet = ["--log-level", "warning", "--no-access-log"]
    # One process, whatever WEB_CONCURRENCY says. A reader who has stopped reading does not delay its end.
    limits = ["--workers", "1", "--timeout-graceful-shutdown", "2"]
    return [str(layout.airflow_env / "bin" / "python"), "-m", "uvicorn", *serve, *quiet, *limits]


def log_variables(port: int) -> dict[str, str]:
    """What tells Airflow's services where the log server is."""
    return {
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "loopback_host.host_name",  # plugins/loopback_host.py
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(port),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port),
    }
