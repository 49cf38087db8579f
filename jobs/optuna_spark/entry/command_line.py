"""Run the trials of a study, on Spark or in local processes. A failure ends in one line that names its cause."""

from __future__ import annotations

import argparse
import csv
import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from optuna_spark.database.url import URL_VARIABLE, parse_url, storage_url_from_environment
from optuna_spark.distribution.spark_session import spark_session
from optuna_spark.driver.ending import ENDING
from optuna_spark.driver.final_model import train_final_model
from optuna_spark.entry.run_spec import configure_logging, exit_with_card, run_spec
from optuna_spark.errors import DataError, SpecError, StorageError
from optuna_spark.objectives.registry import (
    BUILT_IN,
    FOR_NO_TABLE,
    FOR_TABLES,
    default_search_space,
    kind_of,
)
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.decode import to_dict
from optuna_spark.spec.model import ModelOrder
from optuna_spark.spec.plain_secrets import refuse_plain_secrets
from optuna_spark.spec.run_keys import COORDINATIONS, DISTRIBUTIONS
from optuna_spark.spec.run_secrets import take_secrets
from optuna_spark.spec.sections import ResourceSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.tracking.mirror import mirrors

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the trials. Exits with 1 and one readable cause if the run fails."""
    configure_logging()
    args = parser().parse_args(arguments)
    ENDING.on_sigterm()
    exit_with_card(lambda: _run(args))


def parser() -> argparse.ArgumentParser:
    """The command line. Its arguments have the names, meanings and defaults of the reference program."""
    result = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = result.add_argument
    add(
        "--spec-file", help="file with the whole run as JSON, as Airflow passes it; the other options are then not used"
    )
    add("--secrets-file", help="file with what the run must know and nobody else may; removed once it is read")
    add("--spec", help="the same as a text, for use by hand")
    add("--objective", default="", help=f"{', '.join(BUILT_IN)} or module:function ({FOR_TABLES} with --filepath)")
    add("--filepath", help="table to train on: a CSV or Parquet file every worker can read")
    add("--label", help="column to predict; the last one by default")
    add("--separator", help="field separator of a CSV file; found in its first line by default")
    add("--trials", type=int, default=100, help="trials to run in all")
    add("--tasks", type=int, default=2, help="Spark tasks, each a worker that runs one trial at a time")
    add("--jobs", type=int, default=8, help="threads that launch Spark jobs at the same time (joblib)")
    add("--distribution", default="joblib", choices=DISTRIBUTIONS, help="how the workers are started")
    add("--coordination", default="driver", choices=COORDINATIONS, help="who hands out the trials")
    add("--direction", default="minimize", choices=("minimize", "maximize"))
    add("--study-name", help="optuna-spark-<objective> by default")
    add("--storage", help=f"storage URL without password; by default {URL_VARIABLE} of the environment")
    add("--localhost", action="store_true", help="the database of the storage URL is on this machine")
    add("--seed", type=int, help="seed of the sampler and of the data split")
    add("--gpus-per-task", type=float, default=0.0, help="GPUs of a task, fractions allowed; 0 = CPU")
    add("--model-order", help="instead of trials: train the final model that this file orders, as Airflow passes it")
    add("--model-folder", help="the folder for its files")
    add("--run-id", help="go on with the run of this id; a new run by default")
    return result


def spec_from_arguments(args: argparse.Namespace) -> TuningSpec:
    """The run that the command line describes.

    Raises:
        SpecError: An argument is missing or out of range.
    """
    if args.spec_file is not None:
        return read_spec(Path(args.spec_file))
    spec = TuningSpec.from_json(args.spec) if args.spec is not None else _spec_of_options(args)
    refuse_plain_secrets(to_dict(spec))  # every user of the machine can read a program's arguments
    return spec


def _spec_of_options(args: argparse.Namespace) -> TuningSpec:
    objective = args.objective or (FOR_TABLES if args.filepath else FOR_NO_TABLE)
    if kind_of(objective).needs_data and not args.filepath:
        raise SpecError(f"--filepath is required for objective {objective}: name a CSV or Parquet file")
    return TuningSpec(
        study_name=args.study_name or f"optuna-spark-{objective.replace(':', '-')}",
        objective=objective,
        directions=(args.direction,),
        search_space=default_search_space(objective),
        data=_data(args) if args.filepath else None,
        seed=args.seed,
        trials=args.trials,
        tasks=args.tasks,
        jobs=args.jobs,
        distribution=args.distribution,
        coordination=args.coordination,
        resources=ResourceSpec(gpus_per_task=args.gpus_per_task),
        run_id=args.run_id or "",
    )


def read_spec(path: Path) -> TuningSpec:
    """Read a run from a file.

    Raises:
        SpecError: The file is missing, or is not a spec.
    """
    try:
        return TuningSpec.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"the spec {path} cannot be read: {error.strerror}; send the job's files again") from error


def read_order(path: Path) -> ModelOrder:
    """Read the order of a final model from a file.

    Raises:
        SpecError: The file is missing, or is no such order.
    """
    try:
        return ModelOrder.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"the order {path} cannot be read: {error.strerror}; send the job's files again") from error


def _data(args: argparse.Namespace) -> DataSpec:
    separator = args.separator or _separator(args.filepath)
    return DataSpec(args.filepath, separator=separator, label=args.label)


def _separator(filepath: str) -> str:
    """The separator of a CSV file, from its header, decompressed; a comma if there is no file or no clear separator."""
    if not Path(filepath).is_file():
        return ","
    from optuna_spark.data.files.content import UNREADABLE, first_line, is_parquet, local_head

    try:
        head = local_head(filepath)
        if is_parquet(head):
            return ","
        header = first_line(head)
        return csv.Sniffer().sniff(header, delimiters=",;\t|").delimiter
    except (csv.Error, DataError, *UNREADABLE):  # whoever reads the file says what is wrong with it
        return ","


def storage_url(args: argparse.Namespace) -> str:
    """The storage URL: `--storage`, else the environment.

    Raises:
        StorageError: There is none, or the one on the command line has a password.
    """
    url = parse_url(args.storage or storage_url_from_environment())
    if args.storage and url.password:
        raise StorageError(
            f"--storage must not carry a password, other users can read it there: set {URL_VARIABLE} instead"
        )
    if args.localhost:
        url = url.set(host="127.0.0.1")
    return url.render_as_string(hide_password=False)


def _run(args: argparse.Namespace) -> None:
    spec = spec_from_arguments(args).identified()
    secrets = take_secrets(Path(args.secrets_file)) if args.secrets_file else None
    url = "" if args.model_order else storage_url(args)
    os.environ.pop(URL_VARIABLE, None)  # programs that Spark or an objective starts must not get the password
    with ExitStack() as at_the_end:

        def connect() -> SparkSession:
            spark = spark_session(spec, secrets.conf if secrets else None)
            at_the_end.callback(_stop, spark)
            return spark

        session, of_data = None if spec.distribution == "local" else connect, secrets.data if secrets else None
        if args.model_order:
            order = read_order(Path(args.model_order))
            train_final_model(spec, order, Path(args.model_folder or "model"), session, of_data)
        else:
            run_spec(spec, url, session, of_data, mirrors(spec, secrets.tracking if secrets else None))


def _stop(spark: SparkSession) -> None:
    """Stop the session. After SIGTERM its Java may have ended already: the signal goes to every process of the run."""
    with ENDING.tidying():
        try:
            spark.stop()
        except Exception as error:  # whatever Py4J raises when nobody answers
            if not ENDING.asked:
                raise
            log.info("[tuning] Spark had ended before: %s", type(error).__name__)
