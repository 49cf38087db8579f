"""Which trials samplers and pruners are shown in a long study."""

from __future__ import annotations

import itertools
import random
from typing import Any

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_spark.sampling.build import build_sampler
from optuna_spark.sampling.history import History, HistoryStorage
from optuna_spark.sampling.sampler_facts import sees_all
from optuna_spark.spec.sections import ComponentSpec

LIMIT = 40
COMPLETE, FAIL, PRUNED = TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED


def finished(number: int, *values: float, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    trial = create_trial(values=values or None, state=state)
    trial.number = number
    return trial


def seen(count: int, directions: list[StudyDirection], limit: int = LIMIT) -> tuple[History, list[FrozenTrial]]:
    chance, history = random.Random(1), History(limit, directions)
    trials = [finished(n, *(chance.random() for _ in directions)) for n in range(count)]
    for trial in trials:
        history.open(trial.number)
        history.close(trial)
    return history, trials


@pytest.mark.parametrize("direction", list(StudyDirection)[1:])
def test_a_sampler_sees_the_best_and_the_most_recent_ones(direction: StudyDirection) -> None:
    history, trials = seen(200, [direction])
    worst_first = direction == StudyDirection.MAXIMIZE
    best = sorted(trials, key=lambda t: t.values[0], reverse=worst_first)[: LIMIT // 8]
    shown = history.for_samplers()
    assert {t.number for t in best} | set(range(180, 200)) <= set(shown)
    assert shown == sorted(set(shown))
    assert len(shown) <= LIMIT


@pytest.mark.parametrize("count", [50, 200, 2000])
def test_a_sampler_sees_others_spread_evenly_over_the_whole_history(count: int) -> None:
    history = History(LIMIT, [StudyDirection.MINIMIZE])
    for number in range(count):
        history.close(finished(number, float(number)))
    best, recent = set(range(LIMIT // 8)), set(range(count - LIMIT // 2, count))
    spread = sorted({*history.for_samplers()} - recent)
    assert len(spread) > LIMIT // 4
    gaps = [after - before for before, after in itertools.pairwise([*spread, count - LIMIT // 2]) if before not in best]
    assert max(gaps) <= 6 * max(1, round(count / LIMIT))


def test_samplers_are_shown_all_but_the_one_whose_time_grows_too_fast() -> None:
    nested: dict[str, Any] = {"fixed_params": {}, "base_sampler": {"name": "TPESampler"}}
    arguments: dict[str, dict[str, Any]] = {"GridSampler": {"search_space": {"x": [1]}}, "PartialFixedSampler": nested}
    for name in sorted(set(optuna.samplers.__all__) - {"BaseSampler", "BaseGASampler", "nsgaii", "GPSampler"}):
        assert sees_all(build_sampler(ComponentSpec(name, arguments.get(name, {})), 1)), name


@pytest.mark.parametrize("whole", [True, False])
def test_a_storage_shows_pruners_all_and_samplers_too_but_one(whole: bool) -> None:
    storage = HistoryStorage(LIMIT, whole=whole)
    study_id = storage.load("study", [StudyDirection.MINIMIZE], [finished(n, 0.0) for n in range(100)])
    running = [storage.create_new_trial(study_id) for _ in range(4)]
    for number, state in zip(reversed(running), (COMPLETE, FAIL, PRUNED), strict=False):
        storage.set_trial_state_values(number, state, [1.0] if state == COMPLETE else None)
    everything = [*range(100), running[1], running[3]]
    assert (storage.finished_well().tolist() == everything) == whole
    assert (len(storage.get_all_trials(study_id)) == 104) == whole
    with storage.showing("pruner"):
        assert len(storage.get_all_trials(study_id)) == 104


def test_with_several_directions_the_best_are_those_nothing_dominates() -> None:
    history, trials = seen(200, [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE], limit=120)

    def dominated(trial: FrozenTrial) -> bool:
        x, y = trial.values
        return any(o.values[0] <= x and o.values[1] >= y and o.values != trial.values for o in trials)

    front = {t.number for t in trials if not dominated(t)}
    assert 1 < len(front) <= 120 // 8
    assert front | set(range(140, 200)) <= set(history.for_samplers())


def test_feasible_trials_come_before_better_ones_that_are_not() -> None:
    constrained, worse = (History(16, [StudyDirection.MINIMIZE]) for _ in range(2))
    for number in range(100):
        trial = finished(number, float(number))
        if number < 60:
            trial.set_constraint("c", 1.0)
        constrained.close(trial)
        worse.close(finished(number, number + (1000.0 if number < 60 else 0.0)))
    shown = set(constrained.for_samplers())
    assert {60, 61, *range(92, 100)} <= shown
    assert not {0, 1} <= shown
    assert constrained.for_samplers() == worse.for_samplers()


def test_trials_that_end_in_another_order_are_shown_by_number() -> None:
    history = History(LIMIT, [StudyDirection.MINIMIZE])
    for number in (3, 1, 0, 2):
        history.close(finished(number, 0.0))
    assert history.for_samplers() == [0, 1, 2, 3]


def test_the_storage_shows_all_trials_while_they_are_few() -> None:
    storage = HistoryStorage(LIMIT)
    study_id = storage.load("study", [StudyDirection.MINIMIZE], [finished(n, 0.0) for n in range(LIMIT)])
    assert len(storage.get_all_trials(study_id)) == LIMIT
    storage.create_new_trial(study_id, finished(LIMIT, 0.0))
    assert len(storage.get_all_trials(study_id)) <= LIMIT
    with storage.showing("all"):
        assert len(storage.get_all_trials(study_id)) == LIMIT + 1
    assert len(storage.everything(study_id)) == LIMIT + 1


def test_the_storage_without_a_limit_shows_all_trials() -> None:
    storage = HistoryStorage(None)
    study_id = storage.load("study", [StudyDirection.MINIMIZE], [finished(n, 0.0) for n in range(500)])
    assert len(storage.get_all_trials(study_id, deepcopy=False)) == 500


def test_of_a_part_running_trials_are_always_shown_and_failed_ones_never() -> None:
    storage = HistoryStorage(LIMIT)
    study_id = storage.load("study", [StudyDirection.MINIMIZE], [finished(n, float(n)) for n in range(100)])
    running, failed = storage.create_new_trial(study_id), storage.create_new_trial(study_id)
    storage.set_trial_state_values(failed, TrialState.FAIL)
    assert [t.number for t in storage.running()] == [running]
    shown = {t.number for t in storage.get_all_trials(study_id)}
    assert running in shown
    assert failed not in shown
    assert not {running, failed} & set(storage.finished_well())


def test_what_is_shown_is_current() -> None:
    storage = HistoryStorage(2)
    study_id = storage.load("study", [StudyDirection.MINIMIZE], [finished(n, 0.0) for n in range(10)])
    number = storage.create_new_trial(study_id)
    storage.set_trial_user_attr(number, "key", "value")
    shown = storage.get_all_trials(study_id, deepcopy=False)
    assert shown[-1].user_attrs == {"key": "value"}
    storage.set_trial_state_values(number, TrialState.COMPLETE, [1.0])
    assert storage.get_all_trials(study_id, states=(TrialState.RUNNING,)) == []
    assert storage.get_all_trials(study_id)[-1].value == 1.0
