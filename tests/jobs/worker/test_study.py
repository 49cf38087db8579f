"""What an objective may do with its study: whatever it may do under `study.optimize`, with either coordination."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import download_artifact, get_all_artifact_meta, upload_artifact
from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_spark.device import Device
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.spec.sections import ComponentSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.wire.messages import Outcome
from tests.jobs.worker.conftest import Worker
from tests.support.coordination import bowl, run_one


def parabola(trial: Any) -> float:
    return float(trial.suggest_float("x", -10, 10) ** 2)


def test_trial_and_study_are_optunas(worker: Worker) -> None:
    def objective(trial: Any) -> float:
        assert isinstance(trial, optuna.Trial)
        assert isinstance(trial.study, optuna.Study)
        assert trial.study.study_name == "study"
        assert trial.study.direction == trial.study.directions[0] == StudyDirection.MAXIMIZE
        return 1.0

    run_one(worker(directions=("maximize",)), objective)


def test_the_best_trial_is_known_as_soon_as_there_is_one(worker: Worker) -> None:
    seen = []

    def objective(trial: Any) -> float:
        study = trial.study
        nothing_yet = pytest.raises(ValueError, match=r"No trials are completed yet|Record does not exist")
        with contextlib.nullcontext() if trial.number else nothing_yet:
            seen.append((study.best_value, study.best_params, study.best_trial.number))
        trial.suggest_int("n", trial.number, trial.number)
        return float([3, 1, 2, 0][trial.number])

    source = worker()
    for _ in range(4):
        run_one(source, objective)
    assert seen == [(3.0, {"n": 0}, 0), (1.0, {"n": 1}, 1), (1.0, {"n": 1}, 1)]


def test_the_best_trial_keeps_the_constraints(worker: Worker) -> None:
    source = worker()

    def objective(trial: Any) -> float:
        trial.set_constraint("c", 1.0 - trial.number)
        return float(trial.number)

    for _ in range(3):
        run_one(source, objective)
    run_one(source, lambda t: float(t.study.best_trial.number == 1) or pytest.fail("it breaks the constraint"))


def test_all_trials_are_there_and_the_own_one_with_what_it_has_just_set(worker: Worker) -> None:
    def objective(trial: Any) -> float:
        trial.suggest_float("x", 0, 1)
        trial.report(0.5, 3)
        trial.set_user_attr("k", [1])
        trial.set_constraint("c", -1)
        study = trial.study
        mine = study.trials[-1]
        assert (mine.number, mine.state) == (trial.number, TrialState.RUNNING)
        assert mine.params == trial.params
        assert mine.distributions == trial.distributions == {"x": FloatDistribution(0, 1)}
        assert (mine.intermediate_values, mine.user_attrs["k"], mine.constraints) == ({3: 0.5}, [1], {"c": -1.0})
        assert mine.datetime_start == trial.datetime_start
        assert [t.number for t in study.trials] == list(range(trial.number + 1))
        assert [t.number for t in study.get_trials(states=(TrialState.COMPLETE,))] == list(range(trial.number))
        assert [t.number for t in study.get_trials(states=(TrialState.RUNNING,))] == [trial.number]
        study.trials[0].user_attrs["k"].append(2)
        assert study.trials[0].user_attrs["k"] == [1]
        return 1.0

    source = worker()
    for _ in range(3):
        run_one(source, objective)


def test_a_worker_sees_the_trials_of_the_others(worker: Worker) -> None:
    one, two = worker(trials=4), worker()
    running = two.ask()
    assert running is not None
    run_one(one, lambda t: (t.set_user_attr("by", "one"), 5.0)[1])

    def objective(trial: Any) -> float:
        first, second, third, *_ = trial.study.trials  # the driver may have sampled one more ahead
        assert (first.number, first.state) == (running.number, TrialState.RUNNING)
        assert (second.state, second.value, second.user_attrs["by"]) == (TrialState.COMPLETE, 5.0, "one")
        assert second.datetime_complete >= second.datetime_start
        assert third.number == trial.number
        return 1.0

    run_one(one, objective)


def test_attributes_of_the_study_are_seen_by_all(worker: Worker) -> None:
    one, two = worker(), worker()
    value = {"list": [1, None, "größer"]}

    def setting(trial: Any) -> float:
        trial.study.set_user_attr("k", value)
        value["list"].append("later")
        trial.study.set_user_attr("n", 1)
        trial.study.set_user_attr("n", 2)
        return 1.0

    def reading(trial: Any) -> float:
        assert trial.study.user_attrs == {"k": {"list": [1, None, "größer"]}, "n": 2}
        with pytest.raises(TypeError):
            trial.study.set_user_attr("k", {1, 2})
        return 1.0

    run_one(one, setting)
    run_one(two, reading)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_values_have_names(worker: Worker) -> None:
    def objective(trial: Any) -> float:
        trial.study.set_metric_names(["loss"])
        assert trial.study.metric_names == ["loss"]
        with pytest.raises(ValueError, match="number of objectives"):
            trial.study.set_metric_names(["loss", "time"])
        return 1.0

    run_one(worker(), objective)


def test_queued_parameters_are_tried_next(worker: Worker) -> None:
    def queueing(trial: Any) -> float:
        study = trial.study
        study.enqueue_trial({"x": 1.5}, user_attrs={"why": "a guess"})
        study.enqueue_trial({"x": 1.5}, skip_if_exists=True)
        (waiting,) = study.get_trials(states=(TrialState.WAITING,))
        assert waiting.number == trial.number + 1
        assert waiting.user_attrs == {"why": "a guess"}
        with pytest.raises(TypeError, match="must be a dictionary"):
            study.enqueue_trial([1])
        with pytest.raises(TypeError):
            study.enqueue_trial({"x": {1, 2}})
        return 1.0

    def taking(trial: Any) -> float:
        assert trial.user_attrs["why"] == "a guess"
        assert trial.suggest_float("x", -10, 10) == 1.5
        assert not trial.study.get_trials(states=(TrialState.WAITING,))
        return 1.0

    source = worker()
    run_one(source, queueing)
    run_one(source, taking)
    run_one(source, lambda t: 1.0 if "why" not in t.user_attrs else pytest.fail("queued once, tried twice"))


def test_a_table_of_the_trials(worker: Worker) -> None:
    def objective(trial: Any) -> float:
        table = trial.study.trials_dataframe()
        assert list(table["state"]) == ["COMPLETE"] * trial.number + ["RUNNING"]
        assert list(table["number"]) == list(range(trial.number + 1))
        return parabola(trial)

    source = worker()
    for _ in range(3):
        run_one(source, objective)


def test_several_directions(worker: Worker) -> None:
    def objective(trial: Any) -> tuple[float, float]:
        study = trial.study
        assert study.directions == [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]
        if trial.number == 2:
            assert [t.number for t in study.best_trials] == [1]
        with pytest.raises(RuntimeError, match="multi-objective"):
            _ = study.direction
        with pytest.raises(RuntimeError, match="multi-objective"):
            _ = study.best_trial
        with pytest.raises(NotImplementedError, match="multi-objective"):
            trial.report(1.0, 0)
        with pytest.raises(NotImplementedError, match="multi-objective"):
            trial.should_prune()
        return float(-trial.number), float(trial.number)

    source = worker(directions=("minimize", "maximize"))
    for _ in range(3):
        run_one(source, objective, 2)


def test_relative_params_are_those_that_are_then_suggested(worker: Worker) -> None:
    tpe = ComponentSpec("TPESampler", {"n_startup_trials": 2})

    def objective(trial: Any) -> float:
        relative = trial.relative_params
        assert trial.relative_search_space == ({"x": FloatDistribution(-10, 10)} if trial.number else {})
        assert bool(relative) == (trial.number >= 2)
        x = trial.suggest_float("x", -10, 10)
        assert relative.get("x", x) == x
        return float(x**2)

    source = worker(sampler=tpe)
    for _ in range(4):
        run_one(source, objective)


def test_stop_starts_no_further_trial(worker: Worker) -> None:
    source = worker(trials=5)
    run_one(source, parabola)
    run_one(source, lambda t: (t.study.stop(), 1.0)[1])
    assert source.ask() is None


def test_files_are_kept_with_the_trial_and_the_study(worker: Worker, tmp_path: Path) -> None:
    spec = TuningSpec("study", artifacts=f"{tmp_path}/kept/here")
    store = ObjectiveContext(spec, Device("cpu", None, threads=1)).artifact_store
    (tmp_path / "model.txt").write_text("of the trial")

    def objective(trial: Any) -> float:
        for owner in (trial, trial.study):
            upload_artifact(artifact_store=store, file_path=f"{tmp_path}/model.txt", study_or_trial=owner)
            (kept,) = get_all_artifact_meta(owner)
            assert (kept.filename, kept.mimetype) == ("model.txt", "text/plain")
        return 1.0

    def looking(trial: Any) -> float:
        (kept,) = get_all_artifact_meta(trial.study.trials[0], storage=trial.study._storage)
        assert len(get_all_artifact_meta(trial.study)) == 1
        download_artifact(artifact_store=store, file_path=f"{tmp_path}/again.txt", artifact_id=kept.artifact_id)
        return 1.0

    source = worker()
    run_one(source, objective)
    run_one(source, looking)
    assert (tmp_path / "again.txt").read_text() == "of the trial"


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_cross_validation_scores_are_reported(worker: Worker) -> None:
    def objective(trial: Any) -> float:
        optuna.terminator.report_cross_validation_scores(trial, [0.5, 0.75])
        return 1.0

    source = worker()
    run_one(source, objective)
    run_one(source, lambda t: t.study.trials[0].system_attrs["terminator:cv_scores"][1])


class PruningCallback:
    """What the callbacks of Optuna's integrations do with a trial: XGBoost's, LightGBM's, Lightning's."""

    def __init__(self, trial: optuna.Trial) -> None:
        assert isinstance(trial, optuna.Trial)
        assert not trial.study._is_multi_objective()
        if trial.study.direction != StudyDirection.MINIMIZE:
            raise ValueError("the intermediate values are inconsistent with the objective values")
        self._trial = trial

    def __call__(self, step: int, value: float) -> None:
        self._trial.report(value, step=step)
        if self._trial.should_prune():
            raise optuna.TrialPruned(f"Trial was pruned at epoch {step}.")


def test_a_callback_prunes_and_may_be_copied_as_scikit_learn_copies_it(worker: Worker) -> None:
    def objective(trial: Any) -> float:
        callback = copy.deepcopy(PruningCallback(trial))
        for step in range(3):
            callback(step, float(trial.number))
        return float(trial.number)

    source = worker(pruner=ComponentSpec("MedianPruner", {"n_startup_trials": 1}))
    assert [run_one(source, objective).state for _ in range(2)] == [TrialState.COMPLETE, TrialState.PRUNED]
    run_one(source, lambda t: float(t.study.trials[1].intermediate_values == {0: 1.0}) or pytest.fail("no report"))


def test_a_pickled_trial_can_be_read(worker: Worker) -> None:
    def objective(trial: Any) -> float:
        x = trial.suggest_float("x", -10, 10)
        trial.set_user_attr("k", 1)
        trial.set_constraint("c", 2.0)
        trial.report(1.0, 0)
        copied = pickle.loads(pickle.dumps(trial))
        assert isinstance(copied, optuna.Trial)
        assert (copied.number, copied.params, copied.user_attrs["k"]) == (trial.number, {"x": x}, 1)
        assert copied.suggest_float("x", -10, 10) == x
        assert copied.constraints == {"c": 2.0}
        assert (copied.datetime_start, copied.distributions) == (trial.datetime_start, trial.distributions)
        assert (copied.study.study_name, copied.study.directions) == ("study", trial.study.directions)
        with pytest.raises(RuntimeError, match="a pickled study cannot stop the run"):
            copied.study.stop()
        return 1.0

    run_one(worker(), objective)


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "optimize": (lambda t: t.study.optimize(bowl, n_trials=1), r"cannot call study.optimize\(\): the run hands out"),
    "ask": (lambda t: t.study.ask(), r"cannot call study.ask\(\): the run hands out"),
    "tell": (lambda t: t.study.tell(t, 1.0), r"cannot call study.tell\(\): the run hands out"),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_the_run_does_itself_is_refused_in_a_sentence(what: str, worker: Worker) -> None:
    def objective(trial: Any) -> float:
        action, sentence = REFUSED[what]
        with pytest.raises(RuntimeError, match=sentence):
            action(trial)
        assert len(trial.study.trials) == 1
        return 1.0

    run_one(worker(), objective)


def test_a_study_of_its_own_within_a_trial(worker: Worker) -> None:
    def objective(trial: Any) -> float:
        inner = optuna.create_study()
        inner.optimize(parabola, n_trials=2)
        return inner.best_value

    assert run_one(worker(), objective).state == TrialState.COMPLETE


def test_a_trial_that_has_ended_does_not_change_any_more(worker: Worker) -> None:
    source = worker()
    old: Any = source.ask()
    source.tell(old, Outcome(TrialState.COMPLETE, (1.0,)))

    def objective(trial: Any) -> float:
        late: list[Callable[[], Any]] = [
            lambda: old.report(1.0, 0),
            lambda: old.set_user_attr("k", 1),
            lambda: old.set_constraint("c", 1),
        ]
        for action in late:
            with pytest.raises(UpdateFinishedTrialError):
                action()
        assert old.study.trials[0].state == TrialState.COMPLETE
        return parabola(trial)

    assert run_one(source, objective).state == TrialState.COMPLETE
