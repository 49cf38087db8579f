"""A real MLflow server for the tests of the mirror."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mlflow_server import MlflowServer, server_python


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server, which tests may kill; each test has a study of its own name."""
    server = new_server(tmp_path_factory.mktemp("mlflow"))
    try:
        yield server
    finally:
        server.stop()


def new_server(folder: Path) -> MlflowServer:
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed here")
    if not server_python().exists():
        pytest.skip("no MLflow server is installed here: .state/envs/mlflow")
    server = MlflowServer(folder)
    server.start()
    return server
