"""python -m optuna_spark.entry.check_run SPEC REPORT: what driver and workers would refuse of a run, in one process.

Unlike the driver it imports an objective of the user's own, as a worker does. It starts nothing and needs no database.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from optuna_spark.entry.command_line import read_spec
from optuna_spark.errors import SpecError
from optuna_spark.objectives.registry import check_import, check_objective, max_steps
from optuna_spark.sampling.build import build_pruner, build_sampler
from optuna_spark.spec.tuning import TuningSpec


def main(arguments: Sequence[str] | None = None) -> None:
    """Check the spec in the file SPEC, and write what is wrong, or null, to the file REPORT as JSON."""
    spec_file, report = map(Path, sys.argv[1:] if arguments is None else arguments)
    report.write_text(json.dumps(refusal(read_spec(spec_file))), encoding="utf-8")


def refusal(spec: TuningSpec) -> str | None:
    """Why the run would be refused; None if it would not."""
    try:
        check_objective(spec)
        build_sampler(spec.sampler, spec.seed)
        build_pruner(spec.pruner, max_steps(spec))
        check_import(spec)
    except SpecError as error:
        return str(error)
    return None


if __name__ == "__main__":
    main()
