"""What one trial sets and the database cannot hold fails that trial alone: the run goes on and counts right."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, distribution_to_json
from optuna.trial import TrialState, create_trial

from init.local.mysql import MysqlServer
from optuna_spark.errors import SpecError, TrialLimitError
from optuna_spark.spec.sections import ParamSpec, StopSpec
from optuna_spark.storage.trial_marks import error_of, run_id_of
from optuna_spark.wire.messages import Changes, Next, Outcome, Suggest, Suggested, Tell
from optuna_spark.worker.driver_source import CoordinatorClient
from tests.support.coordination import (
    Coordinator,
    binary_database,
    bowl,
    finished,
    new_database,
    run,
    spec_for,
    stored,
    work,
)
from tests.support.waiting import wait_until

Action = Callable[[Any], Any]
LONG = [f"{'choice' * 4} {n}" for n in range(4000)]


@pytest.fixture
def url(mysql_server: MysqlServer) -> sa.URL:
    """A database as earlier versions made it: it takes names for equal that differ in case or accents."""
    return old_database(mysql_server, "utf8mb4 COLLATE utf8mb4_unicode_ci")


def old_database(server: MysqlServer, letters: str) -> sa.URL:
    url = new_database(server)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {url.database} CHARACTER SET {letters}")
    engine.dispose()
    return url


def attrs(*names: str) -> Action:
    return lambda trial: [trial.set_user_attr(name, 1) for name in names]


def floats(*names: str) -> Action:
    return lambda trial: [trial.suggest_float(name, 0, 1) for name in names]


def fail_with(text: str) -> Action:
    def action(trial: Any) -> None:
        raise ValueError(text)

    return action


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def no_json_later(trial: Any) -> None:
    value: list[Any] = [1]
    trial.set_user_attr("k", value)
    value.append(object())
    raise ValueError("the last word")


# What is set, and the rule that the trial's error names.
CLASHES: dict[str, tuple[Action, str]] = {
    "parameters in case": (floats("lr", "LR"), "takes two names of this trial for one"),
    "attributes in case": (attrs("acc", "ACC"), "takes two names"),
    "a space at the end": (attrs("acc", "acc "), "takes two names"),
    "letters": (attrs("Größe", "Grösse"), "takes two names"),
    "constraints": (lambda t: (t.set_constraint("c", 1), t.set_constraint("C", 1)), "takes two names"),
}
MISFITS: dict[str, tuple[Action, str]] = {
    "thousands of choices": (lambda t: t.suggest_categorical("c", LONG), "at most 65535 bytes of JSON"),
    "an emoji a choice": (lambda t: t.suggest_categorical("c", ["😀" * 9000, "x"]), "at most 65535 bytes of JSON"),
    "an error of emoji": (fail_with("😀" * 8000 + " the end"), "the end"),
    "half a character in an error": (fail_with("\ud800 the end"), "the end"),
    "half a character in an attribute's name": (attrs("\ud800"), "text that UTF-8 can hold"),
    "half a character in a parameter's name": (floats("\ud800"), "text that UTF-8 can hold"),
    "a deep attribute": (lambda t: t.set_user_attr("k", nested(600)), "nested at most"),
    "a very deep attribute": (lambda t: t.set_user_attr("k", nested(200_000)), "recursion"),
    "a long name of a constraint": (lambda t: t.set_constraint("c" * 600, 1.0), "at most 480 characters"),
    "a late step": (lambda t: t.report(1.0, 2**31), "at most 2147483647"),
    "an attribute that is no JSON later": (no_json_later, "the last word"),
}


def bad_at(action: Action, *numbers: int) -> Callable[[Any], float]:
    def objective(trial: Any) -> float:
        if trial.number in numbers:
            action(trial)
        return bowl(trial)

    return objective


def check_only_failed(url: Any, numbers: Sequence[int], wanted: int, rule: str) -> None:
    trials = stored(url)
    assert [t.number for t in trials] == list(range(len(trials)))
    assert {t.number for t in trials if t.state != TrialState.COMPLETE} == set(numbers)
    assert len(finished(url)) == wanted
    for number in numbers:
        assert trials[number].state == TrialState.FAIL
        assert rule in str(error_of(trials[number]))
        assert run_id_of(trials[number]) == "one"


@pytest.mark.attack("the wire", "names and values of a trial that the tables cannot hold")
@pytest.mark.parametrize("case", list(CLASHES | MISFITS))
def test_what_the_database_cannot_hold_fails_its_trial_alone(case: str, url: sa.URL) -> None:
    action, rule = (CLASHES | MISFITS)[case]
    for _ in range(2):  # and a retry has nothing left to do
        run(spec_for(trials=7), url, bad_at(action, 2), workers=3)
    check_only_failed(url, [2], 7, rule)


def test_an_attribute_of_the_study_that_the_database_refuses_is_left_out(mysql_server: MysqlServer) -> None:
    url = old_database(mysql_server, "latin1")

    def objective(trial: Any) -> float:
        for key in ("before", "\N{PARTY POPPER}", f"after {trial.number}"):
            trial.study.set_user_attr(key, "\N{PARTY POPPER}")  # as JSON it is ASCII
        return bowl(trial)

    run(spec_for(trials=4), url, objective, workers=2)
    check_only_failed(url, [], 4, "")
    study = optuna.load_study(study_name="study", storage=url.render_as_string(hide_password=False))
    assert study.user_attrs.keys() == {"before", *(f"after {number}" for number in range(4))}


@pytest.mark.parametrize("bad", [[0], [4], [3, 4, 5]])
def test_the_budget_is_exact_even_if_the_last_trials_are_refused(url: sa.URL, bad: list[int]) -> None:
    coordinator = run(spec_for(trials=5), url, bad_at(attrs("acc", "ACC"), *bad), workers=2)
    check_only_failed(url, bad, 5, "takes two names")
    assert (coordinator.snapshot().finished, coordinator.snapshot().failed) == (5, len(bad))


def test_all_workers_finished_trials_of_the_same_group_are_stored(url: sa.URL) -> None:
    engine = sa.create_engine(url)
    together = threading.Barrier(8)

    def objective(trial: Any) -> float:
        if trial.number < 8:
            together.wait(60)
        if trial.number == 3:
            attrs("acc", "ACC")(trial)
        return bowl(trial)

    with Coordinator(spec_for(trials=20, tasks=8), url) as coordinator:
        endpoint = coordinator.start()
        with engine.connect() as holder:  # nothing can be written while the eight are told
            holder.exec_driver_sql("SELECT * FROM studies FOR UPDATE")
            threads = [threading.Thread(target=tell_all, args=(endpoint, objective)) for _ in range(8)]
            for thread in threads:
                thread.start()
            wait_until(lambda: coordinator.snapshot().finished >= 8, "eight told trials")
        for thread in threads:
            thread.join(180)
        coordinator.raise_if_failed()
    engine.dispose()
    check_only_failed(url, [3], 20, "takes two names")


def tell_all(endpoint: Any, objective: Callable[[Any], float]) -> None:
    client = CoordinatorClient((endpoint.host, endpoint.port), endpoint.secret, "test:1")
    while (trial := client.ask()) is not None:
        client.tell(trial, Outcome(TrialState.COMPLETE, (objective(trial),)))
    client.close()


def test_an_objective_that_always_clashes_ends_the_run_as_one_that_always_fails(url: sa.URL) -> None:
    with pytest.raises(TrialLimitError, match=r"in a row.*the first, trial 0: the database takes two names"):
        run(spec_for(trials=60, stop=StopSpec(max_consecutive_failures=6)), url, bad_at(attrs("a", "A"), *range(99)), 4)
    assert len(stored(url)) < 30


def test_a_refused_trial_is_not_the_best_and_reaches_no_target(url: sa.URL) -> None:
    def objective(trial: Any) -> float:
        if trial.number == 1:
            attrs("acc", "ACC")(trial)
        return -100.0 if trial.number in (1, 4) else bowl(trial)

    coordinator = run(spec_for(trials=50, stop=StopSpec(target_value=-50.0)), url, objective)
    assert coordinator.snapshot().best_number == 4
    check_only_failed(url, [1], 4, "takes two names")


def test_a_running_trial_is_told_of_it_the_next_time_it_asks(url: sa.URL) -> None:
    seen: list[str] = []

    def objective(trial: Any) -> float:
        if trial.number == 1:
            attrs("acc", "ACC")(trial)

            def told() -> bool:
                trial.report(1.0, len(seen))
                seen.append("asked")
                return bool(trial.should_prune())

            wait_until(told, "the driver to say it", every_s=0.2)
        return bowl(trial)

    run(spec_for(trials=3), url, objective)
    check_only_failed(url, [1], 3, "takes two names")


def test_letters_that_an_old_database_lacks_fail_the_trial_alone(mysql_server: MysqlServer) -> None:
    url = old_database(mysql_server, "latin1")
    run(spec_for(trials=4), url, bad_at(attrs("π"), 1), workers=2)
    check_only_failed(url, [1], 4, "the database cannot hold what this trial has set")


def test_parameters_to_try_again_that_are_too_long_together_fail_alone(url: sa.URL) -> None:
    long = {name: [name * 40_000] for name in "ab"}  # each fits; Optuna queues them in one attribute
    with Coordinator(spec_for(trials=3, search_space={}), url) as coordinator:
        endpoint = coordinator.start()
        client = CoordinatorClient((endpoint.host, endpoint.port), endpoint.secret, "dies:1")
        lost = client.ask()
        assert lost is not None
        for name, choices in long.items():
            lost.suggest_categorical(name, choices)
        client._closed.set()
        client._frames.close()
        work(endpoint, bowl)
        coordinator.raise_if_failed()
    trials = stored(url)
    assert [t.state for t in trials[:2]] == [TrialState.FAIL] * 2
    assert [t.state for t in trials[2:]] == [TrialState.COMPLETE] * 3
    assert "the database cannot hold what this trial has set" in str(error_of(trials[1]))


@pytest.mark.parametrize("case", ["user_attrs", "constraints", "reports", "deep", "distribution", "name", "error"])
@pytest.mark.attack("the wire", "a worker that does not check what its trial sets")
def test_the_driver_checks_what_a_worker_has_not(case: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.sqlite3"
    changes: dict[str, Changes] = {
        "user_attrs": Changes(user_attrs={"k": "x" * 70_000}),
        "constraints": Changes(constraints={"c" * 600: 1.0}),
        "reports": Changes(reports=((2**31, 1.0),)),
        "deep": Changes(user_attrs={"k": nested(58)}),
    }
    choices: BaseDistribution = CategoricalDistribution(LONG)
    spec = spec_for(trials=2, search_space={}, stop=StopSpec(max_retries=0))
    with Coordinator(spec, url) as coordinator:
        endpoint = coordinator.start()
        client = CoordinatorClient((endpoint.host, endpoint.port), endpoint.secret, "test:1")
        trial = client.ask()
        assert trial is not None
        outcome = Outcome(TrialState.COMPLETE, (1.0,))
        if case in changes:
            client.update(trial.number, changes[case])
            with pytest.raises(ValueError, match="at most"):
                client.should_prune(trial.number, Changes())
        elif case == "error":
            client._request(LongTell(trial.number, Outcome(TrialState.FAIL, error="short"), ask=False), Next)
        else:
            name, distribution = ("x", choices) if case == "distribution" else ("x" * 513, FloatDistribution(0, 1))
            with pytest.raises(ValueError, match="at most"):
                client._request(UncheckedSuggest(trial.number, name, distribution), Suggested)
        if case != "error":
            client.tell(trial, outcome)
        while (trial := client.ask()) is not None:  # on the same connection
            client.tell(trial, outcome)
        client.close()
        coordinator.raise_if_failed()
    states = [t.state for t in stored(url)]
    lost = case in changes or case == "error"
    assert states == ([TrialState.FAIL] if lost else []) + [TrialState.COMPLETE] * 2
    if lost:
        assert ("at most" if case in changes else "the end") in str(error_of(stored(url)[0]))


class UncheckedSuggest(Suggest):
    """From a worker that does not check what it asks for."""

    def to_message(self) -> dict[str, Any]:
        text = distribution_to_json(self.distribution)
        return {"op": self.op, "number": self.number, "name": self.name, "distribution": text}


class LongTell(Tell):
    """The end of a trial with an error of a megabyte."""

    def to_message(self) -> dict[str, Any]:
        return super().to_message() | {"error": "😀" * 60_000 + "the end"}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        (
            {"search_space": {"c": {"type": "categorical", "choices": tuple(LONG)}}},
            r"choices must be at most 65000 bytes",
        ),
        (
            {"search_space": {"c": {"type": "categorical", "choices": (1, True)}}},
            r"takes the choices 1 and True for equal",
        ),
        ({"search_space": {"x" * 513: {"type": "float", "low": 0, "high": 1}}}, r"at most 512 characters"),
        ({"search_space": {"\ud800": {"type": "float", "low": 0, "high": 1}}}, r"that UTF-8 can hold"),
        ({"enqueue": ({"x": "y" * 70_000},)}, r"enqueue: an entry must be at most 65000 bytes"),
    ],
)
def test_a_spec_that_the_database_cannot_hold_is_refused_before_the_run(changes: dict[str, Any], rule: str) -> None:
    def make() -> None:
        space = {name: ParamSpec(**param) for name, param in changes.get("search_space", {}).items()}
        spec_for(**changes | {"search_space": space})

    with pytest.raises(SpecError, match=rule):
        make()


def test_a_value_of_choices_that_python_takes_for_equal_arrives_as_it_was_chosen(tmp_path: Path) -> None:
    seen: set[tuple[type, object]] = set()

    def objective(trial: Any) -> float:
        value = trial.suggest_categorical("c", [1, True, 1.0])
        seen.add((type(value), value))
        return 1.0

    run(spec_for(trials=30, search_space={}), f"sqlite:///{tmp_path}/study.sqlite3", objective)
    assert {kind for kind, _ in seen} == {int, bool, float}


@pytest.mark.parametrize("declared", [True, False])
def test_a_waiting_trial_that_has_parameters_already_is_run_with_them(declared: bool, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.sqlite3"
    study = optuna.create_study(study_name="study", storage=url)
    given = {"x": 3.0, "other": "b"}
    choices = CategoricalDistribution(["a", "b"])
    space = {"x": FloatDistribution(-10, 10), "other": choices}
    study.add_trial(create_trial(state=TrialState.WAITING, params=given, distributions=space))
    seen: list[dict[str, Any]] = []

    def objective(trial: Any) -> float:
        seen.append(trial.params)
        assert trial.number or trial.suggest_categorical("other", ["a", "b"]) == "b"
        return bowl(trial)

    run(spec_for(trials=2, **({} if declared else {"search_space": {}})), url, objective)
    assert given.items() <= seen[0].items()
    assert Counter(t.state for t in stored(url)) == {TrialState.COMPLETE: 2}


def test_an_attribute_is_stored_as_it_was_when_it_was_set(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.sqlite3"

    def objective(trial: Any) -> float:
        value = {"loss": [1.0]}
        trial.set_user_attr("curve", value)
        value["loss"].append(2.0)
        assert trial.user_attrs["curve"] == {"loss": [1.0]}
        value["set"] = {1}  # type: ignore[assignment]  # no JSON any more
        return bowl(trial)

    run(spec_for(trials=1), url, objective)
    assert stored(url)[0].user_attrs["curve"] == {"loss": [1.0]}


def test_a_new_database_tells_all_names_apart(mysql_server: MysqlServer) -> None:
    url = binary_database(mysql_server)
    names = ["acc", "ACC", "acc ", "Größe", "Grösse", "Worker", "e\u0301", "é"]
    run(spec_for(trials=4), url, lambda t: (attrs(*names)(t), floats("lr", "LR")(t), bowl(t))[-1], workers=2)
    assert [t.state for t in stored(url)] == [TrialState.COMPLETE] * 4
    assert all(set(names) <= t.user_attrs.keys() and {"lr", "LR"} <= t.params.keys() for t in stored(url))
