"""Parameter sets to try first are queued once, however many there are."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from optuna_spark.sampling.enqueue import new_sets


def waiting(params: dict[str, Any]) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": params})


def finished(value: float) -> optuna.trial.FrozenTrial:
    space: dict[str, optuna.distributions.BaseDistribution] = {"x": optuna.distributions.FloatDistribution(0, 10)}
    return optuna.trial.create_trial(params={"x": value}, distributions=space, value=1.0)


@pytest.mark.parametrize(
    ("params", "trials", "new"),
    [
        ({"x": 1.5}, [], True),
        ({"x": 1.5}, [finished(1.5)], False),
        ({"x": 2}, [finished(2.0)], False),
        ({"x": 1.5}, [waiting({"x": 1.5})], False),
        ({"x": 1.5}, [waiting({"x": 1.5, "y": 1})], True),
        ({"y": 1, "x": 2}, [waiting({"x": 2, "y": 1})], False),
        ({"x": True}, [waiting({"x": 1})], True),
        ({"x": "1"}, [waiting({"x": 1})], True),
        ({"x": [1, 2]}, [waiting({"x": [1, 2]})], False),
    ],
)
def test_a_set_that_a_trial_has_or_waits_with_is_not_queued(
    params: dict[str, Any], trials: list[optuna.trial.FrozenTrial], new: bool
) -> None:
    assert new_sets([params], trials) == ([params] if new else [])


def test_a_set_that_is_given_twice_is_queued_once() -> None:
    assert new_sets([{"x": 1}, {"x": 2}, {"x": 1.0}], []) == [{"x": 1}, {"x": 2}]
