"""A real MLflow tracking server on loopback, with its runs in SQLite. It may be killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.request
from pathlib import Path

from init.local.layout import REPOSITORY, Layout
from init.local.ports import free_ports
from tests.support.waiting import wait_until

# The Python that has MLflow's server: requirements/mlflow.txt, in an environment of its own.
PYTHON_VARIABLE = "TUNING_MLFLOW_PYTHON"


def server_python() -> Path:
    return Path(os.environ.get(PYTHON_VARIABLE, Layout(REPOSITORY).mlflow_env / "bin" / "python"))


class MlflowServer:
    """The server. Call `stop` at the end.

    Args:
        folder: For its database, artifacts and log.
        environment: Further variables of its environment.
        options: Further options of `mlflow server`.
    """

    def __init__(self, folder: Path, environment: dict[str, str] | None = None, options: tuple[str, ...] = ()) -> None:
        self.folder, self.port = folder, free_ports(1)[0]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._environment, self._options = environment or {}, options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            server_python(), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.sqlite3",
            "--artifacts-destination", str(self.folder / "artifacts"), *self._options,
        ]  # fmt: skip
        own = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **self._environment}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | own, start_new_session=True
            )
        wait_until(self._answers, f"MLflow's server, see {self.folder}/server.log", every_s=0.2)

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, how)  # its workers too
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
