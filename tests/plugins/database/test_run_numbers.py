"""Where a run stands, as SQL reads it: the same best trials as in an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
import sqlalchemy as sa
from optuna.trial import create_trial

from optuna_spark.results.best import best_trials
from optuna_spark.storage.optuna_storage import opened_storage
from tuning_pipeline.database.run_numbers import Best, run_numbers

INF = float("inf")
BROKEN: list[list[float]] = [
    [1e-05],
    [0.05],
    [2.0],
    [3],
    [INF],
    [-1.0, 0.5],
    [0.0, 1.0],
    [0, 1],
    [0.0, 0.0, 10.0],
    [0.5, -1.0],
    [10.0],
]
KEPT: list[list[float]] = [
    [],
    [0.0],
    [-0.0],
    [0],
    [-1.5],
    [-1e-05],
    [-INF],
    [0.0, 0.0],
    [-1.0, 0.0],
    [0, -0.5],
    [-0.5, 0, 0],
]


def as_list(values: list[float]) -> dict[str, Any]:
    """As a sampler's `constraints_func` leaves them."""
    return {"constraints": values}


def by_name(values: list[float]) -> dict[str, Any]:
    """As `trial.set_constraint` leaves them."""
    return {f"constraints:c{i}": value for i, value in enumerate(values)}


@pytest.mark.parametrize("stored", [as_list, by_name])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_trial_that_breaks_a_constraint_is_not_the_best(
    tmp_path: Path, stored: Any, direction: Literal["minimize", "maximize"]
) -> None:
    sign = 1 if direction == "minimize" else -1
    with opened_storage(sa.URL.create("sqlite", database=str(tmp_path / "s.sqlite3"))) as storage:
        study = optuna.create_study(study_name="s", storage=storage, direction=direction)

        def add(value: float, run: str, constraints: list[float]) -> int:
            attrs = {"run_id": run}
            study.add_trial(create_trial(value=sign * value, user_attrs=attrs, system_attrs=stored(constraints)))
            return len(study.trials) - 1

        first = add(5.0, "earlier", [])
        for broken in BROKEN:
            add(1.0, "now", broken)
            numbers = run_numbers("s", "now", storage)
            assert numbers.best == Best(sign * 5.0, first), broken
            assert not numbers.improved
        assert {value for _, value in numbers.history} == {sign * 5.0}
        for worse, kept in enumerate(KEPT):
            number = add(4.0 - worse / 100, "now", kept)
            numbers = run_numbers("s", "now", storage)
            assert numbers.best == Best(sign * (4.0 - worse / 100), number), kept
            assert numbers.best.trial == best_trials(study, 1)[0].number
            assert numbers.improved
