"""Fixtures of the Databricks tests: a stand-in workspace and Airflow's connection to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.connections import set_connection
from tests.support.databricks import TOKEN, Workspace, databricks_workspace

DATABRICKS = "tuning_databricks"


@pytest.fixture
def workspace(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A workspace; a request it does not take fails the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with databricks_workspace() as service:
        connect(monkeypatch, service)
        yield service
    if service.problems:
        pytest.fail("; ".join(service.problems))


def connect(patch: pytest.MonkeyPatch, service: Workspace, token: str = TOKEN) -> None:
    """Make the workspace the one of Airflow's connection."""
    set_connection(patch, DATABRICKS, **connection_fields(service, token))


def connection_fields(service: Workspace, token: str = TOKEN) -> dict[str, Any]:
    port = int(service.base_url.rpartition(":")[2])
    return {"conn_type": "databricks", "host": "127.0.0.1", "schema": "http", "port": port, "password": token}
