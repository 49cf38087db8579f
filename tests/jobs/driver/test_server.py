"""Workers that know the secret and misuse it: each loses its own connection, and nobody else notices."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.trial import TrialState

from optuna_spark.driver.conversation import MOST_UPDATES
from optuna_spark.driver.coordinator import Endpoint
from optuna_spark.driver.server import WorkerServer
from optuna_spark.shown import shown
from optuna_spark.spec.sections import ComponentSpec, CoordinatorSpec, StopSpec
from optuna_spark.storage.trial_marks import marks_of, run_id_of
from optuna_spark.wire.frames import MAX_HELLO, FrameSocket
from optuna_spark.wire.messages import NAME_CHARACTERS, Outcome
from optuna_spark.wire.sealing import WireError
from optuna_spark.worker.driver_source import CoordinatorClient
from tests.support.coordination import Coordinator, bowl, spec_for, stored, work
from tests.support.waiting import wait_until

MESSAGES = 3000
SERVER = "optuna_spark.driver.server"
# A worker may lose as many trials as it likes here.
PATIENT = StopSpec(max_failures=10**6, max_consecutive_failures=10**6, max_retries=0)
TEXT = distribution_to_json(FloatDistribution(0.0, 1.0))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.sqlite3"


class Hostile(FrameSocket):
    """A worker without manners, that knows the secret."""

    def send_raw(self, data: bytes) -> None:
        """Whatever bytes, in a frame of this connection."""
        try:
            self._socket.sendall(self._outgoing.close(data))
        except OSError as error:
            raise WireError(str(error)) from error

    def await_echo(self) -> None:
        """Wait until the driver has read all that was sent."""
        self.send({"op": "beat", "echo": True})
        while self.receive()["op"] != "beat":
            pass


def connected(endpoint: Endpoint, name: object = "hostile:1") -> Hostile:
    frames = Hostile.connect((endpoint.host, endpoint.port), endpoint.secret, 60)
    frames.send({"op": "hello", "worker": name})
    frames.receive()
    return frames


class Fuzz:
    """Messages as no worker sends them; which ones, the seed alone decides."""

    ODD: tuple[Any, ...] = (
        *(None, True, False, 0, -1, 1, 2**31, -(2**63), 10**400, 1.5, 1e308, float("nan"), float("-inf")),
        *("", "x", "0", "COMPLETE", "RUNNING", "\ud800", "\x1b[31m\r\n\u202e", "a" * 5000, "[" * 300, TEXT),
        *([], [[]], [1, 2], [[1, 2.0]], [["a", "b"]], [[-1, 1.0]], [[True, 1.0]], [[0, 10**400]], {}, {"a": {}}),
        {"reports": [[n, 0.0] for n in range(5000)]},
        {"user_attrs": {"k": "x" * 70_000}},
        {"user_attrs": {"\ud800": 1}},
        {"constraints": {"c": float("nan")}},
        {"constraints": {"c" * 600: 1.0}},
    )
    DISTRIBUTIONS = (
        "null",
        "[" * 100_000,
        '{"name": "FloatDistribution"}',
        '{"name": "FloatDistribution", "attributes": {"low": "a", "high": [], "log": {}, "step": null}}',
        '{"name": "IntDistribution", "attributes": {"low": 0, "high": 1%s, "log": false, "step": 1}}' % ("0" * 400),
        '{"name": "IntDistribution", "attributes": {"low": 0, "high": 1%s, "log": false, "step": 1}}' % ("0" * 5000),
        '{"name": "FloatDistribution", "attributes": {"low": NaN, "high": Infinity, "log": false, "step": null}}',
        '{"name": "FloatDistribution", "attributes": {"low": -1e308, "high": 1e308, "log": false, "step": null}}',
        '{"name": "CategoricalDistribution", "attributes": {"choices": [{}, [1], null]}}',
        '{"name": "CategoricalDistribution", "attributes": {"choices": []}}',
        '{"name": "UniformDistribution", "attributes": {"low": 0, "high": 1}}',
        '{"name": "__class__", "attributes": {}}',
    )

    def __init__(self, seed: int, somebody_elses: int) -> None:
        self._chance = random.Random(seed)
        self._somebody_elses = somebody_elses

    def message(self, mine: int) -> bytes:
        """One message; about the trial `mine`, or about somebody else's."""
        kind = self._chance.random()
        if kind < 0.1:
            return self._bytes()
        number = self._chance.choice([mine, self._somebody_elses, 10**6])
        message: dict[str, Any] = self._chance.choice(
            [
                {"op": "ask"},
                {"op": "tell", "number": number, "state": "COMPLETE", "values": [-1e9], "error": None, "ask": True},
                {"op": "suggest", "number": number, "name": "x", "distribution": TEXT},
                {"op": "prune", "number": number, "changes": {"reports": [[0, -1e9]]}},
                {"op": "update", "number": number, "changes": {"user_attrs": {"run_id": "two"}}},
                {"op": "hello", "worker": "again"},
                {"op": "update", "number": number, "changes": {"system_attrs": {"cma:optimizer": "80049"}}},
                {"op": "relative", "number": number},
                {"op": "read", "part": "trials", "since": 0},
                {"op": "enqueue", "params": {"x": 1.0}, "user_attrs": {"k": 1}},
                {"op": "set_study_attr", "key": "study:metric_names", "value": ["a"], "system": True},
            ]
        )
        if kind < 0.3 and message["op"] == "suggest":
            message["distribution"] = self._chance.choice(self.DISTRIBUTIONS)
        elif kind < 0.9 or number == mine:
            self._spoil(message)
        return json.dumps(message).encode()

    def _spoil(self, message: dict[str, Any]) -> None:
        key = self._chance.choice(list(message))
        if self._chance.random() < 0.2:
            del message[key]
        else:
            message[key] = self._chance.choice(self.ODD)

    def _bytes(self) -> bytes:
        depth = self._chance.choice([65, 1000, 100_000])
        return self._chance.choice(
            [
                self._chance.randbytes(self._chance.randrange(200)),
                b'{"op":' * depth + b"1" + b"}" * depth,
                b'{"op":"update","number":0,"changes":{"user_attrs":{"k":' + b"[" * depth + b"]" * depth + b"}}}",
                b'{"op":"tell","number":' + b"9" * 5000 + b"}",
                json.dumps(self._chance.choice(self.ODD)).encode(),
            ]
        )


@pytest.mark.attack("the wire", "messages of odd types, deep, huge or about others' trials", times=MESSAGES)
def test_thousands_of_odd_messages_cost_their_senders_connection_and_one_line_each(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    spec = spec_for(trials=10**6, stop=PATIENT)
    with Coordinator(spec, url) as coordinator:
        endpoint = coordinator.start()
        honest = CoordinatorClient((endpoint.host, endpoint.port), endpoint.secret, "honest:1")
        trial = honest.ask()
        assert trial is not None
        ended = fuzz(endpoint, Fuzz(1, trial.number))
        honest.tell(trial, Outcome(TrialState.COMPLETE, (bowl(trial),)))
        honest.wait_durable()
        honest.close()
        assert coordinator.stop_reason() is None
        coordinator.raise_if_failed()
    mine = stored(url)[trial.number]
    assert (mine.value, mine.user_attrs) == (bowl(trial), {})
    assert (run_id_of(mine), marks_of(mine).worker) == ("one", "honest:1")
    assert not mine.intermediate_values
    lines = [record for record in caplog.records if record.name == SERVER]
    assert ended > 300
    assert len(lines) == ended
    assert all(record.getMessage().isprintable() and len(record.getMessage()) < 600 for record in lines)
    assert not [record for record in caplog.records if record.exc_info]


def fuzz(endpoint: Endpoint, messages: Fuzz) -> int:
    """Send them all, on a new connection where the last one has ended; returns how many the driver has ended."""
    sent = ended = 0
    while sent < MESSAGES:
        frames, mine = connected(endpoint), 10**9
        try:
            if ended % 2:
                mine = ask(frames)
            while sent < MESSAGES:
                sent += 1
                frames.send_raw(messages.message(mine))
                frames.await_echo()
            ask(frames)  # the driver has come so far
            frames.send({"op": "bye"})
        except WireError:
            ended += 1
        finally:
            frames.close()
    return ended


def ask(frames: FrameSocket) -> int:
    frames.send({"op": "ask"})
    while "trial" not in (reply := frames.receive()):
        pass
    return int(reply["trial"]["number"])


@pytest.mark.parametrize(
    "name", ["a\nWARNING root: forged", "\x1b[2J\x1b[31mred", "\u202egnirts\u2066", "\x00\x7f\u2028"]
)
@pytest.mark.attack("the wire", "a worker's name with line ends, escape codes or turned text")
def test_a_workers_name_is_shown_with_escapes(url: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Coordinator(spec_for(stop=PATIENT), url) as coordinator:
        frames = connected(coordinator.start(), name)
        ask(frames)
        frames.send({"op": "stop"})
        frames.receive()
        frames.close()
        wait_until(lambda: [r for r in caplog.records if r.name == SERVER], "the line")
        assert str(coordinator.stop_reason()).isprintable()
    assert all(record.getMessage().isprintable() for record in caplog.records if record.name.startswith("optuna_spark"))
    assert marks_of(stored(url)[0]).worker == shown(name)[:NAME_CHARACTERS]
    assert shown(name).isprintable()
    assert shown(name).isascii()


def test_ordinary_names_are_shown_as_they_are() -> None:
    assert shown("worker-7.größer.example:4711") == "worker-7.größer.example:4711"


@pytest.mark.parametrize(
    "hello",
    [
        {"op": "hello"},
        {"op": "hello", "worker": 7},
        {"op": "ask"},
        {"op": "hello", "worker": "x" * MAX_HELLO},
        {"worker": "x"},
        {"op": ["hello"], "worker": "x"},
    ],
    ids=lambda hello: str(hello)[:40],
)
@pytest.mark.attack("the wire", "a first message that is no hello, or a long one")
def test_whoever_does_not_say_hello_is_sent_away(
    url: str, hello: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with Coordinator(spec_for(trials=2), url) as coordinator:
        endpoint = coordinator.start()
        frames = Hostile.connect((endpoint.host, endpoint.port), endpoint.secret, 60)
        frames.send(hello)
        with pytest.raises(WireError):
            frames.receive()
        work(endpoint, bowl)
    (line,) = [record for record in caplog.records if record.name == SERVER]
    assert "before it was known whose it is" in line.getMessage()
    assert line.exc_info is None


@pytest.mark.attack("the wire", "requests sent without end, before any is answered", times=100)
def test_a_worker_may_have_one_request_of_a_kind_open(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with Coordinator(spec_for(trials=1), url) as coordinator:
        endpoint = coordinator.start()
        busy, greedy = connected(endpoint, "busy:1"), connected(endpoint, "greedy:1")
        ask(busy)
        with contextlib.suppress(WireError):
            for _ in range(100):
                greedy.send({"op": "ask"})
        with pytest.raises(WireError):
            greedy.receive()
        busy.await_echo()
        busy.close()
        work(endpoint, bowl)
    (line,) = [r for r in caplog.records if r.name == SERVER and "greedy:1" in r.getMessage()]
    assert "a second 'ask'" in line.getMessage()


class Stuck(optuna.samplers.RandomSampler):
    """Keeps the driver's Optuna thread until it is let go."""

    go = threading.Event()
    begun = threading.Event()

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        if name == "stuck":
            Stuck.begun.set()
            Stuck.go.wait(300)
        return super().sample_independent(study, trial, name, distribution)


@pytest.fixture
def stuck_sampler() -> Iterator[ComponentSpec]:
    optuna.samplers.StuckSampler = Stuck  # type: ignore[attr-defined]
    optuna.samplers.__all__.append("StuckSampler")
    yield ComponentSpec("StuckSampler")
    Stuck.go.set()
    optuna.samplers.__all__.remove("StuckSampler")


@pytest.mark.attack("the wire", "updates faster than they can be handled, 75 MB", times=300)
def test_updates_that_cannot_be_handled_yet_are_not_read(url: str, stuck_sampler: ComponentSpec) -> None:
    sent: list[int] = []

    def flood() -> None:
        text = {f"k{n}": "x" * 60_000 for n in range(4)}
        for number in range(300):
            flooding.send({"op": "update", "number": mine, "changes": {"user_attrs": text}})
            sent.append(number)

    with Coordinator(spec_for(sampler=stuck_sampler), url) as coordinator:
        endpoint = coordinator.start()
        slow, flooding, third = (connected(endpoint, f"{n}:1") for n in range(3))
        mine = ask(flooding)
        slow.send({"op": "suggest", "number": ask(slow), "name": "stuck", "distribution": TEXT})
        assert Stuck.begun.wait(60)
        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        wait_until(lambda: len(sent) > MOST_UPDATES, "the driver to take some")
        third.await_echo()  # others are heard
        time.sleep(2)
        assert len(sent) < 300
        Stuck.go.set()
        thread.join(120)
        flooding.await_echo()
        assert len(sent) == 300
        assert "value" in slow.receive()


@pytest.mark.attack("the wire", "a worker that does not read what it asked for")
def test_who_does_not_read_is_not_read_and_then_taken_for_dead(
    url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = WorkerServer._admit

    def admit_to_small_buffer(server: WorkerServer, connection: socket.socket, nonce: bytes) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # the kernel's would take megabytes
        admit(server, connection, nonce)

    monkeypatch.setattr(WorkerServer, "_admit", admit_to_small_buffer)
    spec = spec_for(trials=3, coordinator=CoordinatorSpec(heartbeat_s=0.5))
    with Coordinator(spec, url) as coordinator:
        endpoint = coordinator.start()
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((endpoint.host, endpoint.port))
        deaf = Hostile(connection, endpoint.secret)
        deaf.send({"op": "hello", "worker": "deaf:1"})
        with contextlib.suppress(WireError):
            while True:  # until the driver closes
                deaf.send({"op": "beat", "echo": True})
        deaf.close()
        work(endpoint, bowl)
    (line,) = [r for r in caplog.records if r.name == SERVER and "deaf:1" in r.getMessage()]
    assert "taken for dead" in line.getMessage()
