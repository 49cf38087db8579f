"""tuning check | studies | study-url | restore | finish | mlflow-sync: studies, from a shell beside Airflow."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence
from pathlib import Path

from airflow.sdk.configuration import conf

from optuna_spark.errors import TuningError
from tuning_pipeline.commands.airflow_connections import offer_connections
from tuning_pipeline.dag.check import check
from tuning_pipeline.dag.studies import read_studies
from tuning_pipeline.failures import TaskError, card
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="tuning", description=__doc__)
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument(
        "--folder", type=Path, help="folder of the study files; by default `studies` in Airflow's dags_folder"
    )
    commands = result.add_subparsers(dest="command", required=True)
    checking = commands.add_parser(
        "check", parents=[folder], help="read all study files and name what is wrong in them"
    )
    checking.add_argument(
        "--spark-python", type=Path, help="Python of a Spark environment, in which own objectives are imported as well"
    )
    studies = commands.add_parser(
        "studies", parents=[folder], help="list the studies of their databases, or delete one of them"
    )
    studies.add_argument("--delete", metavar="NAME", help="delete this study, after saying what goes")
    studies.add_argument("--yes", action="store_true", help="delete without asking")
    url = commands.add_parser("study-url", parents=[folder], help="print a study's storage URL, with its password")
    url.add_argument("study", help="name of the study, or of its file")
    restoring = commands.add_parser("restore", parents=[folder], help="bring back a study that mode reset replaced")
    restoring.add_argument("study", help="name of the study, or of its file")
    finishing = commands.add_parser(
        "finish", parents=[folder], help="tell the run of a study to finish early: it exports what it has"
    )
    finishing.add_argument("study", help="name of the study, or of its file")
    syncing = commands.add_parser(
        "mlflow-sync", parents=[folder], help="write to MLflow what it lacks of a study's trials, each exactly once"
    )
    syncing.add_argument("study", help="name of the study, or of its file")
    restoring.add_argument("replaced", nargs="?", default="", help="which of those replaced; by default the newest")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code."""
    options = parser().parse_args(arguments)
    folder = options.folder or Path(conf.get("core", "dags_folder")) / "studies"
    if options.command == "check":
        lines, code = check(folder, options.spark_python)
        sys.stdout.write("\n".join(lines) + "\n")
        return code
    try:
        studies = _usable(folder)
        offer_connections(studies)
        return _run(options, studies)
    except TaskError as error:
        sys.stderr.write(card(error.failure, f"tuning {options.command} failed") + "\n")
    except TuningError as error:
        sys.stderr.write(f"error: {error}\n")
    return 1


def _run(options: argparse.Namespace, studies: Sequence[StudyFile]) -> int:
    # Optuna and SQLAlchemy take half a second to import, which `check` does not need.
    from tuning_pipeline.commands import studies as study_commands
    from tuning_pipeline.commands.finish import finish
    from tuning_pipeline.commands.mlflow_sync import mlflow_sync
    from tuning_pipeline.commands.study_url import study_url
    from tuning_pipeline.runs.restore_study import restore

    if options.command == "studies":
        if options.delete is None:
            sys.stdout.write(study_commands.table(study_commands.list_studies(studies)) + "\n")
            return 0
        return study_commands.delete(studies, options.delete, ask=None if options.yes else _ask)
    study = _named(studies, options.study)
    if options.command == "study-url":
        sys.stdout.write(study_url(study) + "\n")
    elif options.command == "finish":
        sys.stdout.write(finish(study, _account()) + "\n")
    elif options.command == "mlflow-sync":
        sys.stdout.write(mlflow_sync(study) + "\n")
    else:
        sys.stdout.write("\n".join(restore(study.path, options.replaced)) + "\n")
    return 0


def _account() -> str:
    """The account that runs this program, for the report."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (KeyError, OSError):  # an account without a name, as in a container
        return "the command line"


def _ask(question: str) -> bool:
    sys.stdout.write(f"{question} [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _usable(folder: Path) -> Sequence[StudyFile]:
    found = read_studies(folder)
    for error in found.errors:
        sys.stderr.write(f"left out: {error}\n")
    if not found.studies:
        raise StudyFileError(f"there is no study file that can be read in {folder}: name their folder with --folder")
    return found.studies


def _named(studies: Sequence[StudyFile], name: str) -> StudyFile:
    for study in studies:
        if name in (study.settings.study, study.name):
            return study
    known = ", ".join(study.settings.study for study in studies)
    raise StudyFileError(f"no study file is about study {name!r}; there is {known}")


if __name__ == "__main__":
    sys.exit(main())
