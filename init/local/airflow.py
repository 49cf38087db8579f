"""What Airflow needs around it: environment variables, connections, and its metadata database."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from init.local import passwords, scratch
from init.local.console import run_step, say
from init.local.layout import Layout
from init.local.mysql import MysqlServer
from init.local.ports import LOOPBACK
from init.local.spark_conf import conf_dir

DATABASE = "optuna"
TUNING_USER = "tuning"
# SQLite's default is 5 s. That is too short when many runs are triggered at once, and each has something to write.
SQLITE_WAIT_S = 60
# The default of the study files' key `pool`.
POOL = "tuning_spark"


def program(layout: Layout) -> Path:
    return layout.airflow_env / "bin" / "airflow"


def environment(layout: Layout, connections: Mapping[str, str], java_home: str | None) -> dict[str, str]:
    """The environment for Airflow's processes: the present one, with the project's folders and connections."""
    paths = [layout.root / "init" / "spark" / "bin", layout.airflow_env / "bin", os.environ.get("PATH", os.defpath)]
    variables = dict(os.environ)
    # The last one holds the secret of another Spark cluster, the others would lead to another Python or Spark.
    elsewhere = ("PYTHONHOME", "VIRTUAL_ENV", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "SPARK_HOME")
    for name in (*elsewhere, "TUNING_SPARK_SECRET_FILE"):
        variables.pop(name, None)
    if java_home:
        variables["JAVA_HOME"] = java_home
    variables.setdefault("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", metadata_url(layout))
    return (
        variables
        | dict(connections)
        | scratch.variables(layout.scratch)
        | {
            "PATH": os.pathsep.join(map(str, paths)),
            "PYTHONPATH": str(layout.root / "jobs"),
            "PYTHONUNBUFFERED": "1",
            "AIRFLOW_HOME": str(layout.airflow_home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(layout.root / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(layout.root / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "SPARK_LOCAL_IP": LOOPBACK,
            "SPARK_CONF_DIR": str(conf_dir(layout.state)),
            "TUNING_STATE": str(layout.state),
            "TUNING_EXPORTS": str(layout.exports),
            "TUNING_SPARK_ENV": str(layout.spark_env),
        }
    )


def metadata_url(layout: Layout) -> str:
    """The URL of Airflow's metadata database, in SQLite.

    SQLite has one writer at a time; with a timeout, others wait for it instead of failing. Airflow itself turns on the
    write-ahead log, with which readers never wait.
    """
    return f"sqlite:///{layout.airflow_home / 'airflow.db'}?timeout={SQLITE_WAIT_S}"


def connections(
    layout: Layout, server: MysqlServer | None, spark_port: int, secrets: Mapping[str, str], *, spark_page: str = ""
) -> dict[str, str]:
    """Environment variables with Airflow's three connections (two with SQLite), and the key for its own secrets."""
    master = {"conn_type": "spark", "host": f"spark://{LOOPBACK}", "port": spark_port}
    found: dict[str, object] = {"SPARK": master | {"extra": {"web_page": spark_page}}}
    if server is None:
        found["DB"] = {"conn_type": "sqlite", "host": str(layout.state / "optuna.sqlite3")}
    else:
        place = {"conn_type": "mysql", "host": server.host, "port": server.port, "extra": {"client": "pymysql"}}
        account = {"login": TUNING_USER, "password": secrets[passwords.DATABASE], "schema": DATABASE}
        found["DB"] = place | account
        found["DB_ADMIN"] = place | {"login": server.admin_user, "password": server.admin_password}
    variables = {f"AIRFLOW_CONN_TUNING_{name}": json.dumps(value) for name, value in found.items()}
    return variables | {passwords.FERNET: secrets[passwords.FERNET]}


def migrate(layout: Layout, env: Mapping[str, str]) -> None:
    """Makes or upgrades the metadata database, once for each version of Airflow."""
    stamp = layout.airflow_home / ".migrated"
    lock = (layout.requirements / "airflow.txt").read_text()
    version = next(line.split()[0] for line in lock.splitlines() if line.startswith("apache-airflow=="))
    version += f", pool {POOL}"
    if (layout.airflow_home / "airflow.db").exists() and stamp.exists() and stamp.read_text() == version:
        return
    say("preparing Airflow's metadata database (once)")
    layout.airflow_home.mkdir(exist_ok=True)
    command: list[str | Path] = [program(layout), "db", "migrate"]
    run_step("preparing Airflow's metadata database", command, log=layout.logs / "migrate.log", env=env)
    pool: list[str | Path] = [program(layout), "pools", "set", POOL, "1", "studies that use the Spark cluster at once"]
    run_step(f"making pool {POOL}", pool, log=layout.logs / "migrate.log", env=env)
    stamp.write_text(version)
