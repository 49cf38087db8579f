"""Workers that die, hang, leave or talk nonsense: the budget stays exact and the run goes on."""

from __future__ import annotations

import contextlib
import queue
import socket
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from optuna_spark.driver.coordinator import Endpoint
from optuna_spark.errors import TrialLimitError
from optuna_spark.spec.sections import CoordinatorSpec, StopSpec
from optuna_spark.stop_and_retry import LOST
from optuna_spark.storage.trial_marks import error_of, marks_of
from optuna_spark.wire.frames import FrameSocket, encode
from optuna_spark.wire.messages import Outcome
from optuna_spark.wire.sealing import WireError, new_secret
from optuna_spark.worker.driver_source import CoordinatorClient
from optuna_spark.worker.trial import RemoteTrial
from tests.support.coordination import Coordinator, bowl, finished, run, slow, spec_for, stored, work
from tests.support.proxy import Proxy
from tests.support.waiting import join


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.sqlite3"


def client_of(endpoint: Endpoint, name: str = "test:9") -> CoordinatorClient:
    return CoordinatorClient((endpoint.host, endpoint.port), endpoint.secret, name)


def frames_of(endpoint: Endpoint) -> FrameSocket:
    """A worker without beats, and without manners."""
    frames = FrameSocket.connect((endpoint.host, endpoint.port), endpoint.secret, 60)
    frames.send({"op": "hello", "worker": "test:0"})
    frames.receive()
    return frames


def test_a_trial_whose_worker_vanished_has_failed_and_is_tried_again(url: str) -> None:
    with Coordinator(spec_for(trials=4), url) as coordinator:
        endpoint = coordinator.start()
        frames = frames_of(endpoint)
        frames.send({"op": "ask"})
        assert frames.receive()["trial"]["number"] == 0
        frames.close()
        assert work(endpoint, bowl) == 4
    lost, again = stored(url)[:2]
    assert (lost.state, error_of(lost)) == (TrialState.FAIL, LOST)
    assert (again.state, again.params, marks_of(again).retried_from) == (TrialState.COMPLETE, lost.params, 0)
    assert coordinator.snapshot().failed == 0


def test_parameters_that_kill_every_worker_are_given_up_after_some_tries(url: str) -> None:
    with Coordinator(spec_for(trials=3, stop=StopSpec(max_retries=2)), url) as coordinator:
        endpoint = coordinator.start()
        for _ in range(3):
            frames = frames_of(endpoint)
            frames.send({"op": "ask"})
            frames.receive()
            frames.close()
        assert work(endpoint, bowl) == 3
    trials = stored(url)
    assert [t.state for t in trials[:3]] == [TrialState.FAIL] * 3
    assert [marks_of(t).retries for t in trials] == [None, 1, 2, None, None, None]
    assert len({t.params["x"] for t in trials}) == 4
    assert coordinator.snapshot().failed == 1


def test_workers_that_always_die_end_the_run(url: str) -> None:
    stop = StopSpec(max_retries=0, max_consecutive_failures=3)
    with Coordinator(spec_for(stop=stop), url) as coordinator:
        endpoint = coordinator.start()
        for _ in range(3):
            frames = frames_of(endpoint)
            frames.send({"op": "ask"})
            frames.receive()
            frames.close()
        assert coordinator.wait_finished(5)
        with pytest.raises(TrialLimitError, match="worker that ran this trial died"):
            coordinator.raise_if_failed()
        assert work(endpoint, bowl) == 0


def test_a_worker_that_falls_silent_is_taken_for_dead(url: str) -> None:
    spec = spec_for(trials=3, coordinator=CoordinatorSpec(heartbeat_s=0.1))
    with Coordinator(spec, url) as coordinator:
        endpoint = coordinator.start()
        frames = frames_of(endpoint)
        frames.send({"op": "ask"})
        frames.receive()
        begun = time.monotonic()
        assert work(endpoint, slow(1.0)) == 3  # beats while the objective works
        with pytest.raises(WireError):
            frames.receive()
        assert time.monotonic() - begun < 20
    assert [t.state for t in stored(url)].count(TrialState.FAIL) == 1


def test_a_result_told_just_before_the_worker_died_counts(url: str) -> None:
    with Coordinator(spec_for(trials=3), url) as coordinator:
        endpoint = coordinator.start()
        frames = frames_of(endpoint)
        frames.send({"op": "ask"})
        number = frames.receive()["trial"]["number"]
        frames.send({"op": "tell", "number": number, "state": "COMPLETE", "values": [7.0], "error": None})
        frames.close()
        assert work(endpoint, bowl) == 2
    assert stored(url)[0].value == 7.0
    assert len(finished(url)) == len(stored(url)) == 3


@pytest.mark.parametrize(("long_s", "waits"), [(1000.0, True), (0.0, False)])
def test_after_a_long_trial_the_next_one_does_not_wait_for_the_database(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long_s: float, waits: bool
) -> None:
    monkeypatch.setattr("optuna_spark.driver.dispatch.dispatcher.LONG_S", long_s)
    told = threading.Event()

    def tell(trial: RemoteTrial) -> None:
        client.tell(trial, Outcome(TrialState.COMPLETE, (1.0,)))
        told.set()

    with Coordinator(spec_for(trials=3), url) as coordinator:
        client = client_of(coordinator.start())
        trial = client.ask()
        assert trial is not None
        holder = sqlite3.connect(tmp_path / "study.sqlite3", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        telling = threading.Thread(target=tell, args=(trial,))
        telling.start()
        assert told.wait(1.0 if waits else 30.0) != waits
        assert TrialState.COMPLETE not in [t.state for t in stored(url)]
        holder.execute("ROLLBACK")
        join(telling)
        following = client.ask()
        assert following is not None
        assert following.suggest_float("x", -10, 10) is not None
        client.wait_durable()
        assert stored(url)[0].value == 1.0
        holder.close()
        client.close()


def test_a_worker_that_leaves_gives_back_the_trial_it_has_not_begun(url: str) -> None:
    with Coordinator(spec_for(trials=5), url) as coordinator:
        endpoint = coordinator.start()
        leaving = client_of(endpoint)
        trial = leaving.ask()
        assert trial is not None
        leaving.tell(trial, Outcome(TrialState.COMPLETE, (1.0,)))
        leaving.close()
        leaving.close()
        assert work(endpoint, bowl, name="staying") == 4
    trials = stored(url)
    assert [t.number for t in trials] == list(range(5))
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert [marks_of(t).worker for t in trials[1:]] == ["staying"] * 4


def test_a_waiting_worker_gets_the_trial_of_one_that_died(url: str) -> None:
    with Coordinator(spec_for(trials=1), url) as coordinator:
        endpoint = coordinator.start()
        frames = frames_of(endpoint)
        frames.send({"op": "ask"})
        frames.receive()
        counts: list[int] = []
        waiting = threading.Thread(target=lambda: counts.append(work(endpoint, bowl)))
        waiting.start()
        time.sleep(0.3)
        assert not counts
        frames.close()
        waiting.join(10)
    assert counts == [1]


def test_a_worker_goes_home_when_enough_others_wait_for_the_trial_that_runs(url: str) -> None:
    with Coordinator(spec_for(trials=1, stop=StopSpec(max_retries=1)), url) as coordinator:
        endpoint = coordinator.start()
        busy = client_of(endpoint)
        trial = busy.ask()
        assert trial is not None
        ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        others = [threading.Thread(target=lambda: ended.put(work(endpoint, bowl))) for _ in range(3)]
        for other in others:
            other.start()
        assert ended.get(timeout=30) == 0
        time.sleep(0.5)
        assert ended.empty()  # the trial can kill its worker and one more, and then another one is needed
        busy.tell(trial, Outcome(TrialState.COMPLETE, (1.0,)))
        assert [ended.get(timeout=30) for _ in range(2)] == [0, 0]
        busy.close()
    assert len(stored(url)) == 1


def test_trials_still_running_when_the_driver_ends_are_closed_and_tried_first_by_the_next_start(url: str) -> None:
    with Coordinator(spec_for(trials=4), url) as coordinator:
        frames = frames_of(coordinator.start())
        frames.send({"op": "ask"})
        frames.receive()
    assert [t.state for t in stored(url)] == [TrialState.FAIL]
    run(spec_for(trials=4), url)
    trials = stored(url)
    assert len(trials) == 5
    assert trials[1].params == trials[0].params
    assert marks_of(trials[1]).retried_from == 0


def test_an_early_stop_leaves_no_trial_behind_that_nobody_ran(url: str) -> None:
    with Coordinator(spec_for(trials=1000, tasks=8), url) as coordinator:
        endpoint = coordinator.start()
        stopping = threading.Timer(0.3, lambda: coordinator.stop("enough"))
        stopping.start()
        work(endpoint, bowl)
    trials = stored(url)
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert [t.number for t in trials] == list(range(len(trials)))


def test_a_trial_somebody_else_holds_cannot_be_told(url: str) -> None:
    with Coordinator(spec_for(trials=3), url) as coordinator:
        endpoint = coordinator.start()
        holder, other = client_of(endpoint), frames_of(endpoint)
        trial = holder.ask()
        assert trial is not None
        other.send({"op": "tell", "number": trial.number, "state": "COMPLETE", "values": [0.0], "error": None})
        with pytest.raises(WireError):
            other.receive()
        holder.tell(trial, Outcome(TrialState.COMPLETE, (3.0,)))
        holder.close()
        work(endpoint, bowl)
    assert stored(url)[0].value == 3.0


@pytest.mark.parametrize(
    "message",
    [
        {"op": "dance"},
        {"op": "ask", "number": {}},
        {"op": "tell"},
        {"op": "tell", "number": 0, "state": "RUNNING", "values": None, "error": None},
        {"op": "tell", "number": 0, "state": "COMPLETE", "values": ["x"], "error": None},
        {"op": "tell", "number": 0, "state": "COMPLETE", "values": [1.0, 2.0], "error": None},
        {"op": "suggest", "number": 0, "name": "x", "distribution": "{}"},
        {"op": "prune", "number": "0"},
        {"op": "update", "number": 0, "changes": {"reports": [["a", "b"]]}},
        {"op": "bye", "unbegun": [7, "x", None]},
        [],
    ],
)
def test_a_worker_that_sends_nonsense_is_sent_away_and_the_run_goes_on(url: str, message: Any) -> None:
    with Coordinator(spec_for(trials=3), url) as coordinator:
        endpoint = coordinator.start()
        frames = frames_of(endpoint)
        frames.send({"op": "ask"})
        frames.receive()
        frames.send(message)
        frames.send({"op": "bye"})
        with contextlib.suppress(WireError):
            frames.receive()
        frames.close()
        work(endpoint, bowl)
    assert len(finished(url)) == 3


def test_a_worker_whose_connection_breaks_connects_again_and_the_budget_stays_exact(url: str) -> None:
    with Coordinator(spec_for(trials=12, stop=StopSpec(max_retries=20)), url) as coordinator:
        endpoint = coordinator.start()
        proxy = Proxy(endpoint.port)

        def cut_sometimes(trial: Any) -> float:
            if trial.number % 3 == 1:
                proxy.cut()
            return bowl(trial)

        work(replace(endpoint, port=proxy.port), cut_sometimes)
        proxy.close()
    lost = stored(url, (TrialState.FAIL,))
    assert len(finished(url)) == 12
    assert {t.number % 3 for t in lost} == {1}
    assert all(error_of(t) == LOST for t in lost)


def test_a_worker_of_another_run_is_told_that_it_is_wrong_here(url: str) -> None:
    with Coordinator(spec_for(), url) as coordinator:
        endpoint = coordinator.start()
        with pytest.raises(WireError, match="no driver of this run answers"):
            CoordinatorClient((endpoint.host, endpoint.port), new_secret(), "test:1", attempts=1)


def test_nobody_listens_any_more_after_the_run(url: str) -> None:
    with Coordinator(spec_for(trials=1), url) as coordinator:
        endpoint = coordinator.start()
        work(endpoint, bowl)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((endpoint.host, endpoint.port))


def test_the_secret_is_not_shown() -> None:
    endpoint = Endpoint("127.0.0.1", 1, b"very secret")
    assert "secret" not in repr(endpoint).replace("secret=", "")


def test_messages_larger_than_one_read_arrive_whole(url: str) -> None:
    def with_much_to_say(trial: Any) -> float:
        for number in range(40):
            trial.set_user_attr(f"part {number}", "x" * 60_000)
        return bowl(trial)

    run(spec_for(trials=2), url, with_much_to_say)
    assert len(stored(url)[1].user_attrs["part 39"]) == 60_000
    assert len(encode({"x": "y"})) < 20
