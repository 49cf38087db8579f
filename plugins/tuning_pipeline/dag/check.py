"""python -m tuning_pipeline.dag.check FOLDER [PYTHON]: reads study files as Airflow would, for a person or a CI job.

With PYTHON, that of the Spark environment, their own objectives, samplers and pruners are imported as well.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tuning_pipeline.dag.misread import misread
from tuning_pipeline.dag.studies import read_studies
from tuning_pipeline.study_file.own_code import shown_code
from tuning_pipeline.study_file.study_file import StudyFile, shown
from tuning_pipeline.targets.package import code_of
from tuning_pipeline.targets.spark_check import named_code, refused_by_spark, runs_here


def check(folder: Path, spark_python: Path | None = None) -> tuple[list[str], int]:
    """Lines that say how each study file is, and the exit code: 1 when one is broken, 2 when there is none.

    Args:
        folder: Of the study files.
        spark_python: Python of the Spark environment, as a shell would find it; None to import no objective.
    """
    if spark_python is None:
        return _check(folder, None)
    program = shutil.which(spark_python)
    if program is None:
        return [f"error: there is no program {spark_python}: name the Python of the Spark environment"], 2
    return _check(folder, Path(program).absolute())


def _check(folder: Path, spark_python: Path | None) -> tuple[list[str], int]:
    found = read_studies(folder)
    if not found.studies and not found.errors:
        return [f"error: no study file in {folder}"], 2
    good, errors = [], [*found.errors, *misread(folder, found.studies)]
    for study in found.studies:
        refused = _refusal(study, spark_python)
        if refused is None:
            good.append(f"ok: {study.path.name}, DAG {study.dag_id}{_sent(study)}{_left_out(study, spark_python)}")
        else:
            errors.append(f"{shown(study.path)}: {refused}")
    return [*good, *(f"error: {error}" for error in errors)], 1 if errors else 0


def _refusal(study: StudyFile, spark_python: Path | None) -> str | None:
    return refused_by_spark(study, spark_python) if spark_python is not None and runs_here(study) else None


def _sent(study: StudyFile) -> str:
    code = code_of(study)
    return f", sends {shown_code(code)}" if len(code) > 1 else ""


def _left_out(study: StudyFile, spark_python: Path | None) -> str:
    named = named_code(study)
    if spark_python is None or not named or runs_here(study):
        return ""
    what = "objective" if named == [study.settings.objective] else ", ".join(named)
    return f" ({what} not imported: its workers have packages or code that this machine has not)"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: python -m tuning_pipeline.dag.check FOLDER [PYTHON]\n")
        return 2
    lines, code = check(*map(Path, arguments))
    sys.stdout.write("\n".join(lines) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
