"""python -m tuning_pipeline.dag.check FOLDER: reads study files as Airflow would, for a person or a CI job."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tuning_pipeline.dag.studies import read_studies


def check(folder: Path) -> tuple[list[str], int]:
    """Lines that say how each study file is, and the exit code: 1 when one is broken, 2 when there is none."""
    found = read_studies(folder)
    lines = [f"ok: {study.path.name}, DAG {study.dag_id}" for study in found.studies]
    lines += [f"error: {error}" for error in found.errors]
    if not lines:
        return [f"error: no study file in {folder}"], 2
    return lines, 1 if found.errors else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tuning_pipeline.dag.check FOLDER\n")
        return 2
    lines, code = check(Path(arguments[0]))
    sys.stdout.write("\n".join(lines) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
