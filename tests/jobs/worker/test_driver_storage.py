"""The worker's storage: what it reads costs little, what it may not change is refused in a sentence."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_spark.driver.dispatch import study_access
from optuna_spark.spec.sections import ComponentSpec, CoordinatorSpec
from optuna_spark.wire.messages import PAGE_CHARACTERS, Outcome, Part
from optuna_spark.worker.driver_source import CoordinatorClient
from tests.support.coordination import bowl, run, run_one, spec_for, stored
from tests.support.memory_driver import MemoryDriver

RANDOM = ComponentSpec("RandomSampler")
DONE = Outcome(TrialState.COMPLETE, (1.0,))


def old_trials(count: int, **attrs: Any) -> list[FrozenTrial]:
    trials = [create_trial(value=float(number), user_attrs=attrs) for number in range(count)]
    for number, trial in enumerate(trials):
        trial.number = number
    return trials


def listen(worker: CoordinatorClient) -> list[str]:
    """The operations that a worker sends from now on."""
    sent: list[str] = []
    send = worker._frames.send

    def noted(message: dict[str, Any]) -> None:
        sent.append(message["op"])
        send(message)

    worker._frames.send = noted  # type: ignore[method-assign]
    return sent


def test_a_declared_trial_costs_one_message() -> None:
    with MemoryDriver(spec_for()) as driver:
        worker = driver.worker()
        trial = worker.ask()
        assert trial is not None
        sent = listen(worker)
        bowl(trial)
        trial.report(1.0, 0)
        trial.set_user_attr("k", [1])
        trial.set_constraint("c", 1.0)
        _ = (trial.params, trial.user_attrs, trial.constraints, trial.distributions, trial.study.directions)
        worker.tell(trial, DONE)
        assert sent == ["tell"]


def test_trials_that_have_ended_are_read_once() -> None:
    spec = spec_for(trials=300, coordinator=CoordinatorSpec(ask_ahead=False))
    with MemoryDriver(spec, old_trials(250)) as driver:
        worker, other = driver.worker(), driver.worker()
        trial = worker.ask()
        assert trial is not None
        sent = listen(worker)
        assert [t.number for t in trial.study.trials] == list(range(251))
        assert sent == ["read"] * 3  # a hundred at a time
        sent.clear()
        read, answer = list[Any](), worker.read

        def noted(part: Part, since: int) -> Any:
            read.append(answer(part, since))
            return read[-1]

        worker.read = noted  # type: ignore[method-assign]
        run_one(other, lambda _: 7.0)
        assert [t.value for t in trial.study.get_trials(states=(TrialState.COMPLETE,))][-1] == 7.0
        assert [[t["number"] for t in page["trials"]] for page in read] == [[251]]


def test_a_trial_larger_than_a_message_is_read_in_pieces() -> None:
    large = {f"k{n}": "ü" * 10_000 for n in range(3 * PAGE_CHARACTERS // 60_000)}
    with MemoryDriver(spec_for(), old_trials(1, **large)) as driver:
        trial = driver.worker().ask()
        assert trial is not None
        assert trial.study.trials[0].user_attrs == large


def test_several_threads_may_read_at_once() -> None:
    with MemoryDriver(spec_for(), old_trials(120)) as driver:
        trial = driver.worker().ask()
        assert trial is not None
        study, seen = trial.study, list[int]()
        threads = [threading.Thread(target=lambda: seen.append(len(study.trials))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert seen == [121] * 8


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a finished trial": (lambda t: t.study.add_trial(create_trial(value=1.0)), "add trials to the run's study"),
    "a waiting one with parameters": (
        lambda t: t.study.add_trial(
            create_trial(state=TrialState.WAITING, params={"x": 1}, distributions={"x": FloatDistribution(0, 1)})
        ),
        "add trials to the run's study",
    ),
    "a running one": (lambda t: t.storage.create_new_trial(0), "make trials: the run hands them out"),
    "a study": (lambda t: t.storage.create_new_study([optuna.study.StudyDirection.MINIMIZE]), "make a study"),
    "the study's end": (lambda t: t.storage.delete_study(0), "delete a study"),
    "a trial's end": (lambda t: t.storage.set_trial_state_values(t.number, TrialState.COMPLETE, [1.0]), "end a trial"),
    "a parameter": (lambda t: t.storage.set_trial_param(t.number, "x", 1.0, FloatDistribution(0, 1)), "set a param"),
    "another's trial": (lambda t: t.storage.set_trial_user_attr(0, "k", 1), "change trial 0: it can change its own"),
    "the sampler": (lambda t: t.study.sampler.sample_relative(t.study, None, {}), "the sampler is in the driver"),
    "the pruner": (lambda t: t.study.pruner.prune(t.study, None), "the pruner is in the driver"),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_a_worker_may_not_is_refused_in_a_sentence(what: str) -> None:
    action, sentence = REFUSED[what]
    with MemoryDriver(spec_for()) as driver:
        other, worker = driver.worker(), driver.worker()
        assert other.ask() is not None
        trial = worker.ask()
        assert trial is not None
        with pytest.raises(RuntimeError, match=sentence):
            action(trial)
        worker.tell(trial, DONE)
        assert driver.journal.records[trial.number].state == TrialState.COMPLETE


@pytest.mark.parametrize(
    "key", ["fixed_params", "cma:optimizer", "nsga2:generation", "optuna_spark:run_id", "artifacts:"]
)
@pytest.mark.attack("the wire", "system attributes that a sampler or the run would trust", times=2)
def test_system_attributes_that_others_trust_are_refused(key: str) -> None:
    with MemoryDriver(spec_for()) as driver:
        worker = driver.worker()
        trial = worker.ask()
        assert trial is not None
        with pytest.raises(ValueError, match=f"cannot set system attribute '{key}' of its trial: use set_user_attr"):
            trial.storage.set_trial_system_attr(trial.number, key, "x")
        with pytest.raises(ValueError, match=f"cannot set system attribute '{key}' of its study: use set_user_attr"):
            trial.storage.set_study_system_attr(0, key, "x")


def test_a_pickled_trial_says_what_it_cannot() -> None:
    with MemoryDriver(spec_for(search_space={})) as driver:
        trial = driver.worker().ask()
        assert trial is not None
        copied = pickle.loads(pickle.dumps(trial))
        missing: list[Callable[[], Any]] = [
            lambda: copied.suggest_float("x", 0, 1),
            lambda: copied.report(1.0, 0),
            lambda: copied.should_prune(),
            lambda: copied.set_user_attr("k", 1),
            lambda: copied.relative_params,
            lambda: copied.study.best_value,
            lambda: copied.study.user_attrs,
            lambda: copied.study.enqueue_trial({"x": 1}),
        ]
        for action in missing:
            with pytest.raises(RuntimeError, match="this trial was pickled, and a copy has no connection"):
                action()


def test_choices_that_python_takes_for_equal_arrive_and_are_kept_as_they_were_chosen() -> None:
    choices, seen = (1, True, 1.0), list[str]()
    with MemoryDriver(spec_for(search_space={}, sampler=RANDOM, enqueue=({"c": True},), trials=12)) as driver:
        worker = driver.worker()
        while (trial := worker.ask()) is not None:
            seen.append(repr(trial.suggest_categorical("c", choices)))
            worker.tell(trial, DONE)
        kept = [choices[int(driver.journal.records[number].params["c"])] for number in range(12)]
        assert seen[0] == "True"
        assert len(set(seen)) == 3
        assert list(map(repr, kept)) == [repr(t.params["c"]) for t in worker._study.trials] == seen


def test_a_lost_trials_choice_is_tried_again_as_it_was() -> None:
    with MemoryDriver(spec_for(search_space={}, sampler=RANDOM, enqueue=({"c": True},), trials=1)) as driver:
        lost, worker = driver.worker(), driver.worker()
        trial = lost.ask()
        assert trial is not None
        assert trial.suggest_categorical("c", (1, True)) is True
        lost.close()
        again = worker.ask()
        assert again is not None
        assert again.suggest_categorical("c", (1, True)) is True


@pytest.mark.filterwarnings("ignore:Inconsistent parameter values:RuntimeWarning")
def test_a_trial_that_waits_with_parameters_is_run_with_them() -> None:
    unit, choices = FloatDistribution(0, 1), CategoricalDistribution(["a", "b"])
    distributions = {"x": unit, "z": FloatDistribution(0, 5), "c": choices}
    params = {"x": 0.5, "z": 3.0, "c": "b"}
    waiting = create_trial(state=TrialState.WAITING, params=params, distributions=distributions)
    waiting.number = 0
    with MemoryDriver(spec_for(trials=1), [waiting]) as driver:
        worker = driver.worker()
        trial = worker.ask()
        assert trial is not None
        assert (trial.suggest_float("x", -10, 10), trial.suggest_float("z", 0, 5)) == (0.5, 3.0)
        assert trial.suggest_categorical("c", ["a", "b"]) == "b"
        worker.tell(trial, DONE)
        assert worker.ask() is None


@pytest.mark.parametrize("value", [10**400, [1], {"a": 1}, "a word", None, float("nan")], ids=lambda v: repr(v)[:9])
def test_queued_parameters_that_do_not_fit_fail_their_own_trial_alone(value: Any) -> None:
    with MemoryDriver(spec_for(trials=3)) as driver:
        worker = driver.worker()
        run_one(worker, lambda t: (t.study.enqueue_trial({"x": value}), bowl(t))[1])
        while (trial := worker.ask()) is not None:
            worker.tell(trial, DONE)
        states = [record.state for record in driver.journal.records.values()]
        assert sorted(states) == [TrialState.COMPLETE] * 3 + [TrialState.FAIL]


def test_queued_trials_are_rows_in_the_order_of_their_numbers_beside_those_sampled_ahead() -> None:
    with MemoryDriver(spec_for(trials=6)) as driver:
        first, second = driver.worker(), driver.worker()
        one, two = first.ask(), second.ask()
        assert one is not None
        assert two is not None
        one.study.enqueue_trial({"x": 1.0})
        two.study.enqueue_trial({"x": 2.0})
        for worker, trial in ((first, one), (second, two)):
            worker.tell(trial, DONE)
        second.close()
        xs = []
        while (later := first.ask()) is not None:
            xs.append(later.suggest_float("x", -10, 10))
            first.tell(later, DONE)
        # In any order: the second worker may have been given one of them, and has given it back by leaving.
        assert sorted(x for x in xs if x in (1.0, 2.0)) == [1.0, 2.0]
        assert sorted(driver.journal.records) == list(range(len(driver.journal.records)))


def test_an_objective_that_queues_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_access, "MOST_WAITING", 3)
    with MemoryDriver(spec_for()) as driver:
        trial = driver.worker().ask()
        assert trial is not None
        for _ in range(3):
            trial.study.enqueue_trial({"x": 1})
        with pytest.raises(RuntimeError, match="at most 3 trials may wait"):
            trial.study.enqueue_trial({"x": 1})


def test_attributes_of_the_study_do_not_fill_the_drivers_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_access, "MOST_ATTRS", 100)
    with MemoryDriver(spec_for(), before=1) as driver:
        trial = driver.worker().ask()
        assert trial is not None
        for _ in range(9):
            trial.study.set_user_attr("k", "x" * 60)  # one attribute, set again
        with pytest.raises(ValueError, match="at most 100 bytes of JSON together"):
            trial.study.set_user_attr("l", "x" * 60)
        assert trial.study.user_attrs == {"before": 1, "k": "x" * 60}
        assert trial.storage.get_study_system_attrs(0) == {}  # the run's own are not shown


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_what_objectives_leave_in_the_study_is_stored_and_there_for_the_next_run(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/study.sqlite3"

    def first(trial: Any) -> float:
        if trial.number == 0:
            trial.study.set_user_attr("k", {"a": [1]})
            trial.study.set_user_attr("k", {"a": [2]})
            trial.study.set_metric_names(["loss"])
        if trial.number == 1:
            trial.study.enqueue_trial({"x": 1.5}, user_attrs={"why": "a guess"})
            trial.report(0.5, 1)
        return bowl(trial)

    def second(trial: Any) -> float:
        assert trial.study.user_attrs == {"k": {"a": [2]}}
        assert trial.study.metric_names == ["loss"]
        assert trial.study.trials[1].intermediate_values == {1: 0.5}
        assert (trial.suggest_float("x", -10, 10), trial.user_attrs["why"]) == (1.5, "a guess")
        return bowl(trial)

    run(spec_for(trials=2), url, first)
    run(spec_for(trials=1, run_id="two"), url, second)
    study = optuna.load_study(study_name="study", storage=url)
    assert (study.user_attrs, study.metric_names) == ({"k": {"a": [2]}}, ["loss"])
    assert [t.state for t in stored(url)] == [TrialState.COMPLETE] * 3
