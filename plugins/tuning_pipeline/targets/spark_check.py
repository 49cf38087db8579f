"""Asks the Spark environment of this machine what a run of a study would refuse: it imports the study's own objective.

Only a person's command does this (`make check-studies`, `tuning check --spark-python`), never the DAG processor.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tuning_pipeline.study_file.study_file import StudyFile
from tuning_pipeline.targets.package import code_of, pack_package, ship
from tuning_pipeline.targets.registry import kind_of

IMPORT_S = 120.0
# The program gets no other variable: user code runs in it.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH")


def runs_here(study: StudyFile) -> bool:
    """Whether a study's workers have the packages of this machine's Spark environment, and all its code is here."""
    settings = study.settings
    local = all(Path(name).is_file() for name in settings.spark.py_files)
    section = kind_of(settings)
    brings_more = settings.spark.archives or section.brings_code(settings)
    return section.runs_on_locked_packages and local and not brings_more


def refused_by_spark(study: StudyFile, python: Path) -> str | None:
    """What a run of the study would refuse; None if nothing.

    Args:
        study: A study that `runs_here`.
        python: The Spark environment's; absolute, because the program starts in a folder of its own.
    """
    with tempfile.TemporaryDirectory(prefix="tuning-check-") as folder:
        scratch = Path(folder)
        path = [str(pack_package(scratch / "optuna_spark.zip")), *map(str, _code_of(study, scratch))]
        spec, report = scratch / "spec.json", scratch / "report.json"
        spec.write_text(study.to_spec("check").to_json(), encoding="utf-8")
        # -P: what lies in the present folder does not travel to workers.
        command: list[str | Path] = [python, "-P", "-m", "optuna_spark.entry.check_run", spec, report]
        env = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"PYTHONPATH": os.pathsep.join(path)}
        try:
            done = subprocess.run(
                command,
                env=env,
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=IMPORT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"objective: importing {_named(study)} took longer than {IMPORT_S:g} s"
        return _read(report, study, done)


def named_code(study: StudyFile) -> list[str]:
    """What the study file names of the user's own, and only an import can check: objective, sampler, pruner."""
    settings = study.settings
    objective = [settings.objective] if ":" in settings.objective else []
    return [*objective, *settings.sampler.own_classes(), *settings.pruner.own_classes()]


def _named(study: StudyFile) -> str:
    return ", ".join(named_code(study)) or study.settings.objective


def _code_of(study: StudyFile, scratch: Path) -> Iterator[Path]:
    """What workers can import beside our package, and no more: modules that lie around do not travel."""
    files = [*ship(code_of(study), scratch), *map(Path, study.settings.spark.py_files)]
    modules = scratch / "modules"
    modules.mkdir()
    for file in files:
        if file.suffix == ".py":
            shutil.copy(file, modules)
        else:
            yield file
    yield modules


def _read(report: Path, study: StudyFile, done: subprocess.CompletedProcess[bytes]) -> str | None:
    try:
        found = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        why = f": {last[0]}" if last else ""
        return f"objective: importing {_named(study)} ended Python with code {done.returncode}{why}"
    return None if found is None else str(found)
