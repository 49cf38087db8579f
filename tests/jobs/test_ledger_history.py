"""Which trials a sampler and a pruner are shown in a long study."""

from __future__ import annotations

import random

import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_spark.history import History, HistoryStorage

LIMIT = 40


def finished(number: int, *values: float, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    trial = create_trial(values=values or None, state=state)
    trial.number = number
    return trial


def seen(count: int, directions: list[StudyDirection]) -> tuple[History, list[FrozenTrial]]:
    chance, history = random.Random(1), History(LIMIT, directions)
    trials = [finished(n, *(chance.random() for _ in directions)) for n in range(count)]
    for trial in trials:
        history.open(trial.number)
        history.close(trial)
    return history, trials


@pytest.mark.parametrize("direction", list(StudyDirection)[1:])
def test_a_sampler_sees_the_best_half_and_the_most_recent_half(direction: StudyDirection) -> None:
    history, trials = seen(200, [direction])
    worst_first = direction == StudyDirection.MAXIMIZE
    best = sorted(trials, key=lambda t: t.values[0], reverse=worst_first)[: LIMIT // 2]
    assert history.best_and_recent() == sorted({t.number for t in best} | set(range(180, 200)))


def test_with_several_directions_the_best_are_those_nothing_dominates() -> None:
    history, trials = seen(200, [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE])

    def dominated(trial: FrozenTrial) -> bool:
        x, y = trial.values
        return any(o.values[0] <= x and o.values[1] >= y and o.values != trial.values for o in trials)

    front = {t.number for t in trials if not dominated(t)}
    assert 0 < len(front) <= LIMIT // 2
    assert history.best_and_recent() == sorted(front | set(range(180, 200)))


def test_a_pruner_sees_the_most_recent_ones_good_and_bad() -> None:
    history, _ = seen(200, [StudyDirection.MINIMIZE])
    assert history.recent() == list(range(160, 200))


def test_feasible_trials_come_before_better_ones_that_are_not() -> None:
    history = History(4, [StudyDirection.MINIMIZE])
    for number in range(20):
        trial = finished(number, float(number))
        if number < 10:
            trial.set_constraint("c", 1.0)
        history.close(trial)
    assert history.best_and_recent() == [10, 11, 18, 19]


def test_running_trials_are_always_seen_and_failed_ones_never() -> None:
    history, _ = seen(100, [StudyDirection.MINIMIZE])
    history.open(100)
    history.open(101)
    history.close(finished(101, state=TrialState.FAIL))
    assert 100 in history.best_and_recent()
    assert 100 in history.recent()
    assert 101 not in history.best_and_recent()


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
