"""Where a run stands, as SQL reads it: the same best trials as in an export."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from optuna_spark.results.best import best_trials
from optuna_spark.storage.optuna_storage import opened_storage
from optuna_spark.storage.trial_marks import begun, ended, failed
from tests.support.coordination import empty_database
from tuning_pipeline.database.run_numbers import Best, run_numbers

INF = float("inf")
NOW = datetime(2026, 11, 27, 12)
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
            attrs = {**stored(constraints), **begun(run)}
            study.add_trial(create_trial(value=sign * value, system_attrs=attrs))
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


@pytest.fixture(params=["sqlite", "mysql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RDBStorage]:
    """A database of a kind with the empty study s."""
    with opened_storage(empty_database(request, tmp_path)) as storage:
        optuna.create_study(study_name="s", storage=storage)
        yield storage


def add(storage: RDBStorage, value: float | None, user: dict[str, Any], system: dict[str, Any]) -> None:
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    trial = create_trial(state=state, value=value, user_attrs=user, system_attrs=system)
    optuna.load_study(study_name="s", storage=storage).add_trial(trial)


def test_trials_belong_to_a_run_by_its_notes_or_else_by_what_version_0_1_0_wrote(storage: RDBStorage) -> None:
    add(storage, 5.0, {"run_id": "now"}, {})  # of version 0.1.0
    add(storage, 4.0, {"run_id": "earlier"}, {})
    add(storage, 3.0, {}, {})  # of no run
    add(storage, 2.0, {}, begun("now", "w:1", NOW))
    add(storage, 1.0, {"run_id": "now"}, begun("now!", "w:1", NOW))  # an objective's own attribute
    add(storage, 6.0, {"run_id": "now!"}, begun("now", "w:1", NOW))
    numbers = run_numbers("s", "now", storage)
    assert numbers.run == {"COMPLETE": 3}
    assert numbers.study == {"COMPLETE": 6}
    assert (numbers.best, numbers.before) == (Best(1.0, 4), Best(1.0, 4))
    numbers = run_numbers("s", "now!", storage)
    assert (numbers.best, numbers.before) == (Best(1.0, 4), Best(2.0, 3))
    assert run_numbers("s", "none", storage).run == {}


def test_reasons_are_the_runs_notes_or_else_what_version_0_1_0_wrote(storage: RDBStorage) -> None:
    own = {"error": "of the objective", "run_id": "other"}
    add(storage, None, {"run_id": "now", "error": "ValueError: of 0.1.0"}, {})
    add(storage, None, own, {**begun("now"), **failed("KeyError: noted")})
    add(storage, None, own, begun("now"))
    reasons = [(reason.error, reason.trial) for reason in run_numbers("s", "now", storage).failures]
    assert sorted(reasons) == [("KeyError: noted", 1), ("ValueError: of 0.1.0", 0)]


def test_the_rate_is_that_of_the_exact_ends(storage: RDBStorage) -> None:
    for tenth in range(5):
        end = NOW + timedelta(seconds=tenth / 10)
        add(storage, 1.0, {}, ended(begun("now", "w:1", NOW), end))
    assert run_numbers("s", "now", storage).per_s == pytest.approx(10)
