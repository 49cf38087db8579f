"""The pruner that draws learning curves on: whom it keeps, whom it ends, and what it is given."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterable
from typing import Literal

import optuna
import pytest
from optuna import Study, Trial, TrialPruned, create_study
from optuna.trial import TrialState

from optuna_spark.errors import SpecError
from optuna_spark.objectives.registry import max_steps
from optuna_spark.sampling.build import build_pruner
from optuna_spark.sampling.extrapolation_pruner import ExtrapolationPruner, extrapolated
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ComponentSpec, ParamSpec
from optuna_spark.spec.tuning import TuningSpec

LAST = 100


def decay(end: float, rate: float) -> Callable[[int], float]:
    """An exponential learning curve: from 1 above `end` down to it."""
    return lambda step: end + math.exp(-rate * step)


def run(study: Study, curve: Callable[[int], float], every: int = 5) -> int:
    """Train one trial along a curve; returns the step at which it ended."""
    ended = 0

    def objective(trial: Trial) -> float:
        nonlocal ended
        for step in range(every, LAST + 1, every):
            ended = step
            trial.report(curve(step), step)
            if step < LAST and trial.should_prune():
                raise TrialPruned
        return curve(LAST)

    study.optimize(objective, n_trials=1)
    return ended


def study_with(pruner: optuna.pruners.BasePruner, direction: Literal["minimize", "maximize"] = "minimize") -> Study:
    return create_study(pruner=pruner, direction=direction)


def test_first_trial_runs_to_its_end() -> None:
    assert run(study_with(ExtrapolationPruner(max_resource=LAST)), decay(1.0, 0.03)) == LAST


def test_a_slow_learner_that_wins_in_the_end_is_kept_where_comparing_steps_loses_it() -> None:
    def learn(pruner: optuna.pruners.BasePruner) -> list[int]:
        study = study_with(pruner)
        fast = [run(study, decay(0.5 + 0.01 * i, 0.2)) for i in range(4)]
        return [*fast[:1], run(study, decay(0.3, 0.05))]

    assert learn(ExtrapolationPruner(max_resource=LAST)) == [LAST, LAST]
    assert learn(optuna.pruners.MedianPruner(n_startup_trials=2)) == [LAST, 5]


def test_a_trial_that_has_flattened_above_the_best_is_pruned_early() -> None:
    study = study_with(ExtrapolationPruner(max_resource=LAST))
    run(study, decay(0.5, 0.05))
    assert run(study, decay(0.9, 0.2)) <= 30
    assert study.trials[1].state == TrialState.PRUNED


def test_no_convex_curve_that_beats_the_best_is_lost_along_a_straight_line() -> None:
    study = study_with(ExtrapolationPruner(max_resource=LAST, flattening=0.0))
    best = math.inf
    for rate in (0.3, 0.1, 0.03, 0.01, 0.003):
        for end in (0.6, 0.4, 0.2):
            final = decay(end, rate)(LAST)
            ended = run(study, decay(end, rate))
            assert ended == LAST or final > best
            best = min(best, final)


@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.2])
@pytest.mark.parametrize("reported", [range(5, 41, 5), [3, 8, 20, 21, 22, 40]])
def test_an_exponential_curve_is_drawn_on_exactly_when_its_whole_flattening_goes_on(
    rate: float, reported: Iterable[int]
) -> None:
    curve = decay(0.5, rate)
    end = extrapolated({step: curve(step) for step in reported}, 1.0, 1.0, LAST)
    # Uneven steps tell the rate less exactly: the slopes are those between points, not at them.
    assert end == pytest.approx(curve(LAST), abs=1e-9 if isinstance(reported, range) else 0.02)


def test_curves_that_no_exponential_fits_are_drawn_on_all_the_same() -> None:
    def end(*values: float, share: float = 0.6) -> float | None:
        return extrapolated(dict(enumerate(values, 1)), 1.0, share, 10)

    assert end(1.0, 0.9) is None
    assert end(1.0, 0.9, 0.7) == pytest.approx(0.7 - 0.2 * 7)  # steeper than before: straight on
    assert end(0.8, 0.9, 0.7) == pytest.approx(0.7 - 0.2 * 7)  # worse at first
    assert end(0.7, 0.6, 0.8) == 0.6  # worse now: no hope beyond its best
    assert end(math.nan, 0.9, 0.7) == pytest.approx(0.7 - 0.2 * 7)
    # Straight but for the last digit.
    assert end(math.nextafter(2.0, 3.0), 1.0, 0.0, share=0.1) == pytest.approx(-7.0)
    assert end(1e300, 1.0, 1.0 - 1e-12, share=100.0) == pytest.approx(1.0)  # flat at once, and no overflow


def test_maximizing_mirrors_minimizing() -> None:
    low = study_with(ExtrapolationPruner(max_resource=LAST))
    high = study_with(ExtrapolationPruner(max_resource=LAST), "maximize")
    for curve in (decay(0.5, 0.05), decay(0.9, 0.2), decay(0.55, 0.1), decay(0.2, 0.02)):
        assert run(low, curve) == run(high, lambda step, curve=curve: -curve(step))  # type: ignore[misc]


def test_the_best_trials_curve_counts_not_what_its_objective_returned() -> None:
    study = study_with(ExtrapolationPruner(max_resource=LAST))
    trial = study.ask()
    trial.report(0.5, LAST)
    study.tell(trial, -1000.0)  # another scale: the square, a cost
    assert run(study, decay(0.3, 0.05)) == LAST


def test_nothing_is_pruned_before_the_warm_up_or_from_a_single_point() -> None:
    study = study_with(ExtrapolationPruner(max_resource=LAST, n_warmup_steps=40))
    run(study, decay(0.1, 0.3))
    assert run(study, lambda _: 5.0) == 40
    study = study_with(ExtrapolationPruner(max_resource=LAST))
    run(study, decay(0.1, 0.3))
    assert run(study, lambda _: 5.0, every=50) == LAST


def test_a_curve_that_is_not_a_number_ends_its_trial() -> None:
    study = study_with(ExtrapolationPruner(max_resource=LAST))
    assert run(study, lambda step: math.nan if step >= 20 else 1.0) == 20


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "max_resource is missing"),
        ({"max_resource": 0}, "max_resource must be at least 1, got 0"),
        ({"max_resource": 5, "flattening": -1}, "flattening must be at least 0, got -1"),
        ({"max_resources": 5}, "max_resource"),
    ],
)
def test_wrong_arguments_are_refused_with_their_rule(arguments: dict[str, float], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        build_pruner(ComponentSpec("ExtrapolationPruner", arguments))


def rounds(search_space: dict[str, ParamSpec], boost: int) -> int | None:
    spec = TuningSpec(
        "study",
        objective="xgboost",
        data=DataSpec("sklearn:diabetes"),
        search_space=search_space,
        objective_section={"num_boost_round": boost},
    )
    return max_steps(spec)


def test_the_xgboost_objective_tells_its_last_round() -> None:
    assert rounds({}, 300) == 300
    assert rounds({"num_boost_round": ParamSpec("int", 50, 700)}, 300) == 700
    assert max_steps(TuningSpec("study")) is None
    assert isinstance(build_pruner(ComponentSpec("ExtrapolationPruner"), 300), ExtrapolationPruner)


def test_it_can_be_wrapped_like_any_pruner_of_optuna() -> None:
    inner = {"name": "ExtrapolationPruner", "args": {"max_resource": LAST}}
    patient = build_pruner(ComponentSpec("PatientPruner", {"wrapped_pruner": inner, "patience": 2}))
    study = study_with(patient)
    run(study, decay(0.5, 0.05))
    assert run(study, float) < LAST  # rises from step to step


EXTREMES = [0.0, -0.0, math.nan, math.inf, -math.inf, 1.7e308, -1.7e308, 5e-324, -5e-324, 1e-300, 1.0, 1 + 2**-52]


def wild_curve(chance: random.Random) -> dict[int, float]:
    """A curve of 1 to 30 points that some objective may report: extreme, constant, tiny, almost straight, steep."""
    count = chance.choice([1, 2, 3, 3, 4, 5, 10, 30])
    steps = sorted(chance.sample(range(chance.choice([40, 1000, 2**31 - 1])), count))
    scale, rate = 10 ** chance.uniform(-320, 308), 10 ** chance.uniform(-12, 2)
    values = chance.choice(
        [
            [chance.choice(EXTREMES) for _ in steps],
            [scale] * count,
            [scale * chance.uniform(-1, 1) for _ in steps],
            [scale + scale * 1e-15 * (count - i) for i in range(count)],
            [1.0 + 10 ** chance.uniform(-18, 0) * math.exp(-min(700.0, rate * i)) for i in range(count)],
            [chance.choice([chance.choice(EXTREMES), chance.uniform(-1, 1)]) for _ in steps],
        ]
    )
    return dict(zip(steps, values, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_no_curve_makes_it_fail_or_leads_to_what_is_not_a_number(seed: int) -> None:
    chance = random.Random(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3000):
            curve, sign = wild_curve(chance), chance.choice([1.0, -1.0])
            flattening, last = chance.choice([0.0, 1e-12, 0.6, 1.0, 1e300]), chance.choice([1, 100, 2**31 - 1])
            end = extrapolated(curve, sign, flattening, last)
            best = min((sign * v for v in curve.values() if not math.isnan(v)), default=None)
            assert (end is None) == (len(curve) < 3 or best is None), curve
            assert end is None or best is None or end <= best, curve


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_no_pair_of_curves_makes_the_pruner_fail(direction: Literal["minimize", "maximize"]) -> None:
    chance = random.Random(7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(150):
            study = study_with(ExtrapolationPruner(max_resource=LAST), direction)
            for ends in (True, False):
                trial = study.ask()
                for step, value in wild_curve(chance).items():
                    trial.report(value, step)
                    assert trial.should_prune() in (True, False)
                if ends:
                    study.tell(trial, chance.choice([1.0, math.inf, -math.inf]))
