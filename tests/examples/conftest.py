"""Runs a study of examples/ with the real engine: its file read and its code shipped as the pipeline does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest

from init.local.layout import REPOSITORY
from optuna_spark.spec.tuning import TuningSpec
from tests.support import plain_submit
from tests.support.programs import run_program
from tests.support.servers import spark_environment
from tuning_pipeline.study_file.study_file import read_study
from tuning_pipeline.targets.package import code_of, pack_package, ship
from tuning_pipeline.targets.standalone.submission import Submission, submission

EXAMPLES = REPOSITORY / "examples"


@dataclass(frozen=True)
class Ran:
    """A study that has run, and what the program wrote."""

    study: optuna.Study
    output: str


def submission_of(name: str, folder: Path, studies: Path = EXAMPLES, **changes: Any) -> tuple[TuningSpec, Submission]:
    """What spark-submit is told of an example, or another study; files of the run lie in `folder`."""
    given = read_study(studies / f"{name}.yaml")
    spec = given.to_spec("test").with_changes(**changes)
    ship(code_of(given), folder)
    spec_file = folder / "spec.json"
    spec_file.write_text(spec.to_json())
    return spec, submission(given, spec, pack_package(folder / "optuna_spark.zip"), spec_file)


@pytest.fixture
def run_example(tmp_path: Path) -> Callable[..., Ran]:
    """Runs an example to its end by one worker on this machine, without Spark."""
    if not spark_environment().exists():
        pytest.skip("no Spark environment: run `make setup`")

    def run(name: str, **changes: Any) -> Ran:
        spec, made = submission_of(name, tmp_path, EXAMPLES, **{"distribution": "local", "tasks": 1} | changes)
        url = f"sqlite:///{tmp_path}/study.sqlite3"
        env = plain_submit.environment({"--py-files": made.py_files}) | {"OPTUNA_STORAGE_URL": url}
        command = [str(spark_environment() / "bin" / "python"), made.application, *made.application_args]
        done = run_program(command, env=env, cwd=tmp_path, together=True)
        return Ran(optuna.load_study(study_name=spec.study_name, storage=url), done.stdout)

    return run
