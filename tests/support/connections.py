"""Airflow connections for tests, handed over as Airflow's users do: in environment variables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from init.local.mysql import MysqlServer

ADMIN, TUNING, SPARK = "tuning_db_admin", "tuning_db", "tuning_spark"


def set_connection(patch: pytest.MonkeyPatch, conn_id: str, **fields: Any) -> None:
    patch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


def admin_fields(server: MysqlServer) -> dict[str, Any]:
    return {
        "conn_type": "mysql",
        "host": server.host,
        "port": server.port,
        "login": server.admin_user,
        "password": server.admin_password,
    }


def tuning_fields(server: MysqlServer, **changes: Any) -> dict[str, Any]:
    fields = {
        "conn_type": "mysql",
        "host": server.host,
        "port": server.port,
        "login": "tuning",
        "password": "tuning-pw",
        "schema": "optuna",
    }
    return fields | changes
