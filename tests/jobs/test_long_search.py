"""The benchmark's long searches: what is measured is the sampler as the driver feeds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from optuna.pruners import PercentilePruner

from benchmarks.contenders.long_search import Found, search
from benchmarks.contenders.pruner_view import TwiceAsked
from benchmarks.contenders.samplers import Optuna, Ours, share_of_optunas
from benchmarks.searched import DESCENT, REPORTED, SEARCHED, Searched, descent
from optuna_spark.spec.sections import ComponentSpec

TRIALS, SLOTS = 60, 8


class Slots:
    """A sampler that notes how many trials run at once, and in which order they end."""

    def __init__(self) -> None:
        self.running: dict[int, int] = {}
        self.most, self.ended, self.asked = 0, list[int](), 0

    def ask(self, slot: int) -> tuple[int, Mapping[str, Any]]:
        assert slot not in self.running
        number, self.asked = self.asked, self.asked + 1
        self.running[slot] = number
        self.most = max(self.most, len(self.running))
        return number, {"x0": float(number), "x1": -3.0}

    def tell(self, slot: int, number: int, value: float) -> None:
        assert self.running.pop(slot) == number
        assert value == (number - 2.0) ** 2
        self.ended.append(number)


def test_a_long_search_runs_as_many_at_once_as_it_has_slots() -> None:
    slots = Slots()
    found = search(slots, SEARCHED["bowl, 2 dimensions"](), TRIALS, SLOTS)
    assert (slots.most, slots.asked, len(slots.ended)) == (SLOTS, TRIALS, TRIALS)
    assert slots.ended != sorted(slots.ended)  # they end in the order of their lengths
    assert found.values == [(number - 2.0) ** 2 for number in range(TRIALS)]


@pytest.mark.parametrize("name", SEARCHED)
def test_with_one_trial_at_a_time_ours_finds_what_optuna_finds(name: str) -> None:
    searched = SEARCHED[name]()
    ours, optuna = (search(kind(searched.space, TRIALS, 1, 7), searched, TRIALS, 1) for kind in (Ours, Optuna))
    assert ours.values == pytest.approx(optuna.values, rel=1e-9)


def test_with_several_at_a_time_ours_samples_ahead_as_the_driver_does() -> None:
    searched = SEARCHED["bowl, 2 dimensions"]()
    ours, optuna = (search(kind(searched.space, TRIALS, 16, 7), searched, TRIALS, 16) for kind in (Ours, Optuna))
    assert ours.values != pytest.approx(optuna.values, rel=1e-9)
    assert len(ours.values) == TRIALS


@pytest.mark.parametrize("name", SEARCHED)
def test_after_the_same_trials_ours_proposes_what_optuna_proposes(name: str) -> None:
    searched = SEARCHED[name]()
    found = search(Ours(searched.space, TRIALS, SLOTS, 7), searched, TRIALS, SLOTS)
    assert share_of_optunas(searched.space, found.values, found.params, 64) == 1.0


def test_other_random_numbers_are_seen_as_other_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = SEARCHED["bowl, 2 dimensions"]()
    found = search(Ours(searched.space, TRIALS, SLOTS, 7), searched, TRIALS, SLOTS)
    monkeypatch.setattr(
        "optuna_spark.sampling.sampler_facts.sampler_seed", lambda seed, history: seed
    )  # Optuna's alone
    assert share_of_optunas(searched.space, found.values, found.params, 64) < 0.1


def test_the_last_thousand_trials_count() -> None:
    found = Found([-1.0] * 500 + [float(n) for n in range(1000)], [100.0] * 500 + [2.0] * 1000)
    summary = found.summary()
    assert (summary["best"], summary["cpu_ms"]) == (-1.0, 2.0)
    quantiles = [summary[name] for name in ("hundredth", "tenth", "median")]
    assert quantiles == pytest.approx([10, 100, 500], abs=1)


def params(searched: Searched, **changes: Any) -> dict[str, Any]:
    middle = {
        n: p.choices[0] if p.choices else (p.low or 0.0) / 2 + (p.high or 0.0) / 2 for n, p in searched.space.items()
    }
    return {**middle, **changes}


def test_the_table_is_real_and_its_best_features_are_neither_few_nor_unpenalised() -> None:
    searched = SEARCHED["ridge, diabetes table"]()
    good = {"columns_l2": 0.1, "products_l2": 1000.0, "power": 0.8}
    linear = searched.value(params(searched, terms="linear", **good))
    best = searched.value(params(searched, terms="products", **good))
    overfitted = searched.value(params(searched, terms="products", **{**good, "products_l2": 1e-3}))
    assert 50 < best < linear < overfitted < 80  # root mean squared error; the target's deviation is 77


def test_learning_curves_fall_and_a_bad_rate_is_seen_early() -> None:
    fast, slow = (descent({"rate": rate, "momentum": 0.5, "l2": 1.0}) for rate in (0.2, 1e-3))
    assert len(fast) == len(REPORTED)
    assert fast[-1] < 60 < slow[-1] < slow[0]
    assert set(DESCENT) == {"rate", "momentum", "l2"}


def test_a_pruner_answers_as_optunas_own_does_with_all_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    study = TwiceAsked(ComponentSpec("MedianPruner"), 100, seed=1)
    answers = [answer for _ in range(300) for answer in study.run_trial()]
    assert any(ours for ours, _ in answers)
    assert [ours for ours, _ in answers] == [optunas for _, optunas in answers]
    monkeypatch.setattr(study, "_optunas", PercentilePruner(1.0))  # another pruner is seen to answer otherwise
    assert any(ours != other for _ in range(100) for ours, other in study.run_trial())
