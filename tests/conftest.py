"""Session-wide servers: started when the first test asks, stopped at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from init.local.layout import REPOSITORY
from init.local.mysql import MysqlServer, is_installed
from init.local.spark import SparkCluster
from tests.support.mlflow_server import MlflowServer, server_python
from tests.support.s3_server import S3Server, private_s3
from tests.support.servers import private_mysql, private_spark, s3_environment, spark_environment
from tests.support.tls_server import TlsServer, private_tls_server

# A process loads Airflow's plugins once, in whichever test is the first to need them: always with the pipeline's pages.
os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(REPOSITORY / "plugins")

# Under `make test`, a make that a test starts would act as a part of it, and write other lines than by itself.
for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"):
    os.environ.pop(name, None)

pytest_plugins = ["tests.support.attacks"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first: a mistake shows within seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(autouse=True)
def same_umask() -> Iterator[None]:
    """Gives the next test the umask that this one had: some commands change it for their process."""
    before = os.umask(0o077)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[MysqlServer]:
    """A real MySQL or MariaDB server: `host`, `port`, `admin_user`, `admin_password`."""
    if not is_installed():
        pytest.skip("no MySQL server is installed here")
    with private_mysql() as server:
        yield server


@pytest.fixture(scope="session")
def tls_server() -> Iterator[TlsServer]:
    """A real server with TLS, and certificates that fit it and that do not."""
    if not is_installed():
        pytest.skip("no MySQL server is installed here")
    with private_tls_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real server that speaks S3, with no bucket."""
    if not s3_environment().exists():
        pytest.skip("no S3 server: run `python3 -m init.local setup --tests`")
    with private_s3() as server:
        yield server


@pytest.fixture(scope="session")
def spark_cluster() -> Iterator[SparkCluster]:
    """A real standalone master and worker: `master_url`, 4 cores, 2 GPUs that exist only for the scheduler."""
    if not spark_environment().exists():
        pytest.skip("no Spark environment: run `make setup`")
    with private_spark(cores=4, gpus=2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server, which tests may kill and start again; each test has a study of its own name."""
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed here")
    if not server_python().exists():
        pytest.skip("no MLflow server is installed here: run `make setup` with --tests")
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    try:
        yield server
    finally:
        server.kill()
