"""Whether Airflow takes the code beside study files for DAG files.

It reads every Python file in its DAG folders that says "airflow" and "dag", unless an .airflowignore names it. A module
of an objective would then run in the DAG processor, which has none of its packages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from airflow.configuration import conf
from airflow.utils.file import list_py_file_paths

from tuning_pipeline.study_file.beside import files_of
from tuning_pipeline.study_file.study_file import StudyFile
from tuning_pipeline.targets.package import code_of


def misread(folder: Path, studies: Iterable[StudyFile]) -> list[str]:
    """One sentence for each file or package beside study files that Airflow takes for a DAG file.

    Args:
        folder: Of the study files.
        studies: Its good studies.
    """
    modules = dict.fromkeys(module for study in studies for module in code_of(study))
    roots = [root for root in _dag_folders() if folder.resolve().is_relative_to(root)] if modules else []
    said = {module: sentence for root in roots for module, sentence in _misread(root, modules)}
    return list(said.values())


def _misread(root: Path, modules: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    # As the DAG processor lists them: by .airflowignore, and by the words where core.dag_discovery_safe_mode is on.
    read = {Path(file).resolve() for file in list_py_file_paths(root)}
    for module in modules:
        if any(file.resolve() in read for file in files_of(module)):
            line = f"{module.resolve().relative_to(root).as_posix()}{'/' if module.is_dir() else ''}"
            yield (
                module,
                f"{line}: Airflow takes this module of an objective for a DAG file: add the line {line} to"
                f" {root / '.airflowignore'}, or its folder where no DAG file is in it",
            )


def _dag_folders() -> list[Path]:
    """The folders on this machine in which Airflow looks for DAG files."""
    bundles = json.loads(conf.get("dag_processor", "dag_bundle_config_list", fallback="[]") or "[]")
    paths = [bundle.get("kwargs", {}).get("path") for bundle in bundles]
    return [Path(path).resolve() for path in [conf.get("core", "dags_folder"), *paths] if path]
