"""Run the trials of a study as a Databricks job, on the cluster's driver (jobs/tune_databricks.py)."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from optuna_spark.database.url import parse_url
from optuna_spark.distribution.spark_session import spark_session
from optuna_spark.entry.command_line import read_spec
from optuna_spark.entry.failure_report import FAILURE_VARIABLE
from optuna_spark.entry.finish_relay import FinishRelay
from optuna_spark.entry.run_spec import configure_logging, exit_with_card, run_spec
from optuna_spark.errors import DataError, StorageError
from optuna_spark.spec.plain_secrets import SECRET_REFERENCE
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.finish_file import FINISH_FILE
from optuna_spark.storage.study_copy import StudyCopy

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

PASSWORD_VARIABLE = "OPTUNA_STORAGE_PASSWORD"  # noqa: S105  # a name
# The folder in which init/databricks/init_optuna.sh leaves the URL of the driver's own MySQL.
HOME_VARIABLE, HOME = "TUNING_HOME", "/var/lib/tuning"


def main(package: str, arguments: Sequence[str]) -> None:
    """Run the trials. Exits with one readable cause if the run fails.

    Args:
        package: The zip that this module was imported from; the workers get it too.
        arguments: The arguments; see `parser`.
    """
    configure_logging()
    args = parser().parse_args(arguments)
    Path(args.output).mkdir(parents=True, exist_ok=True)
    failure = Path(args.output) / "failure.json"
    failure.unlink(missing_ok=True)  # of an earlier attempt of the same run
    os.environ[FAILURE_VARIABLE] = str(failure)
    exit_with_card(lambda: _run(args, package))


def parser() -> argparse.ArgumentParser:
    """The command line, as tuning_pipeline.targets.databricks.payload.parameters writes it."""
    result = argparse.ArgumentParser(description=__doc__)
    add = result.add_argument
    add("--spec-file", required=True, help="the run as JSON")
    add("--output", required=True, help="folder for what the run has to say")
    add("--run-id", help="identity of the run, instead of the one in the spec")
    add("--py-file", action="append", default=[], help="Python file or zip that workers need too")
    add("--study-copy", help="file that is the study between two clusters; the database is the driver's")
    add("--dump-every", type=float, default=60.0, help="seconds between two copies of the study")
    add("--storage", help="URL of an external database, without its password")
    add("--secret", help="<scope>/<key> of its password, where the environment has none")
    return result


def _run(args: argparse.Namespace, package: str) -> None:
    from pyspark.sql import SparkSession

    spec = read_spec(Path(args.spec_file))
    spec = (spec.with_changes(run_id=args.run_id) if args.run_id else spec).identified()
    url = storage_url(args)
    # Databricks has made a session already, with the cluster's properties.
    spark = SparkSession.getActiveSession() or spark_session(spec)
    ship(spark, [package, *args.py_file])
    with ExitStack() as at_work:
        if args.study_copy:  # the database is the driver's own, and nobody else reaches it
            copy = StudyCopy(Path(args.study_copy), url)
            copy.restore()
            at_work.enter_context(copy.kept(args.dump_every))
            relay = FinishRelay(Path(args.output) / FINISH_FILE, url, spec.study_name, spec.run_id)
            at_work.enter_context(relay.at_work())
        run_spec(spec, url, spark, data_secrets(spec))


def storage_url(args: argparse.Namespace) -> str:
    """The URL of the study's database: the driver's own, or the external one with its password.

    Raises:
        StorageError: There is none, or its password is neither in the environment nor a secret of the workspace.
    """
    if not args.storage:
        return driver_url()
    password = os.environ.pop(PASSWORD_VARIABLE, None) or _database_password(args.secret or "")
    return parse_url(args.storage).set(password=password).render_as_string(hide_password=False)


def data_secrets(spec: TuningSpec) -> DataSecrets:
    """The values of the reader options that are given as {{secrets/<scope>/<key>}}.

    Databricks itself resolves such references only in the settings of a cluster.

    Raises:
        DataError: The workspace has no such secret, or the cluster may not read it.
    """
    options = spec.data.format_options if spec.data is not None else {}
    references = {name: value for name, value in options.items() if SECRET_REFERENCE.fullmatch(value)}
    return DataSecrets(options={name: _secret(value[len("{{secrets/") : -2]) for name, value in references.items()})


def driver_url() -> str:
    """The URL that the init script left in a file, which only its own account can read.

    Raises:
        StorageError: There is no such file.
    """
    file = Path(os.environ.get(HOME_VARIABLE, HOME)) / "storage-url"
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StorageError(
            f"the driver has no MySQL ({file}: {error.strerror}): give the cluster the init script init_optuna.sh with"
            " TUNING_DATABASE=driver, or use database external"
        ) from error


def _database_password(name: str) -> str:
    """The database's password from the workspace's secrets, for a cluster whose environment does not hold it."""
    try:
        return _secret(name)
    except DataError as error:
        raise StorageError(
            f"the password of the database is not there: set {PASSWORD_VARIABLE} to {{{{secrets/{name}}}}} in the"
            " cluster's environment variables"
        ) from error.__cause__


def _secret(name: str) -> str:
    """A secret of the workspace.

    Args:
        name: <scope>/<key>.

    Raises:
        DataError: There is no such secret, or the account of the run may not read it.
    """
    scope, _, key = name.partition("/")
    try:
        from databricks.sdk.runtime import dbutils  # part of Databricks' runtime

        return str(dbutils.secrets.get(scope, key))
    except Exception as error:
        raise DataError(
            f"the workspace gives no secret {{{{secrets/{name}}}}}, which data.format_options names: make it, and let"
            " the account of the run read its scope"
        ) from error


def ship(spark: SparkSession, files: Sequence[str]) -> None:
    """Make Python files importable here and on the workers.

    Spark's JVM cannot read a Volume by its path, so it gets copies on the local disk. The copies are in Spark's own
    folder, so they live as long as Spark, not as this run: on a cluster that lives on, each new executor asks for the
    files of all earlier runs.
    """
    from pyspark import SparkFiles

    folder = Path(tempfile.mkdtemp(prefix="tuning-", dir=SparkFiles.getRootDirectory()))
    for name in files:
        local = shutil.copyfile(name, folder / Path(name).name)
        spark.sparkContext.addPyFile(str(local))
