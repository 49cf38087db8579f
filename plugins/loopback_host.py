"""The name under which the services of `make ui` know their host: init/local/log_server.py says why.

Airflow imports this by its dotted name, since it puts the plugins folder on Python's path.
"""


def host_name() -> str:
    """The loopback address, where Airflow's API server finds the log of each task."""
    return "127.0.0.1"
