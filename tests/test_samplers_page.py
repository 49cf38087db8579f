"""docs/samplers.md has every sampler and pruner that a study file can name, with the benchmark's figures."""

from __future__ import annotations

import json
import re

import optuna
import pytest

from benchmarks.cases.sampler_cost import HISTORIES, PRUNERS, SAMPLERS
from init.local.layout import REPOSITORY
from optuna_spark.spec import run_keys

PAGE = (REPOSITORY / "docs" / "samplers.md").read_text(encoding="utf-8")
ROWS = json.loads((REPOSITORY / "benchmarks" / "results" / "latest.json").read_text(encoding="utf-8"))
COST = {(row["contender"], row["metric"]): row["value"] for row in ROWS if row["case"] == "samplers"}


def cells(name: str) -> str:
    """What the page's row of a sampler or pruner begins with."""
    shown = re.sub(r"^(\w+)", r"`\1`", name)
    digits = 1 if name in SAMPLERS else 2
    costs = [COST.get((name, f"cpu_ms_{count}")) for count in HISTORIES]
    return " | ".join([f"| {shown}", *("not measured" if c is None else f"{c:.{digits}f}" for c in costs)]) + " |"


@pytest.mark.parametrize("name", [*SAMPLERS, *PRUNERS])
def test_the_figures_of_the_page_are_those_of_the_results(name: str) -> None:
    assert cells(name) in PAGE


def test_only_what_needs_a_package_that_is_in_no_lock_was_not_measured() -> None:
    measured = {contender for contender, metric in COST if metric.startswith("cpu_ms")}
    assert {*SAMPLERS, *PRUNERS} - measured <= {"GPSampler"}


def test_every_sampler_and_pruner_is_there() -> None:
    names = {n for n in (*optuna.samplers.__all__, *optuna.pruners.__all__) if re.fullmatch(r"\w+(Sampler|Pruner)", n)}
    names = names - {"BaseSampler", "BaseGASampler", "BasePruner"} | {*run_keys.SAMPLERS, *run_keys.PRUNERS}
    measured = {name.partition(",")[0] for name in (*SAMPLERS, *PRUNERS)}
    assert names == measured
