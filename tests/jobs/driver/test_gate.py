"""Who does not know the run's secret: gets nothing, costs little, and keeps nobody out."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from init.local.layout import REPOSITORY
from optuna_spark.driver import gate
from optuna_spark.driver.coordinator import Endpoint
from optuna_spark.driver.gate import Stranger, Strangers, network
from optuna_spark.spec.sections import CoordinatorSpec
from optuna_spark.wire.sealing import INTRODUCTION_BYTES, opening
from optuna_spark.worker.driver_source import CoordinatorClient
from tests.support.coordination import Coordinator, bowl, spec_for, stored, work
from tests.support.proxy import SlowProxy
from tests.support.waiting import wait_until

ROOT = REPOSITORY
WORKERS = 64
HELD, RATE = 300, 600
ROUND_TRIP_S = 0.2


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.sqlite3"


@contextlib.contextmanager
def strangers(endpoint: Endpoint, count: int) -> Iterator[list[socket.socket]]:
    connections = [socket.create_connection((endpoint.host, endpoint.port), timeout=60) for _ in range(count)]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


def ended(connection: socket.socket) -> bool:
    """Whether the driver has closed it, without having said a word."""
    connection.setblocking(False)
    try:
        return connection.recv(1000) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.mark.attack("the wire", "strangers who send nothing, or garbage", times=50)
def test_strangers_get_nothing_and_disturb_nobody(url: str) -> None:
    garbage = [b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(74), os.urandom(100_000), struct.pack(">I", 2**31) * 19]
    with Coordinator(spec_for(trials=20), url) as coordinator:
        endpoint = coordinator.start()
        with strangers(endpoint, 50) as connections:
            for number, connection in enumerate(connections):
                with contextlib.suppress(OSError):
                    connection.sendall(garbage[number % len(garbage)])
            assert work(endpoint, bowl) == 20
            silent = [c for number, c in enumerate(connections) if number % len(garbage) == 0]
            wait_until(lambda: all(ended(c) for c in connections if c not in silent), "the others to be sent away")
            assert not any(ended(c) for c in silent)  # but waited for, a while
    assert len(stored(url)) == 20


def test_one_who_says_nothing_is_sent_away_after_a_while(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "HANDSHAKE_S", 0.5)
    with Coordinator(spec_for(), url) as coordinator, strangers(coordinator.start(), 1) as (connection,):
        assert connection.recv(1000) == b""


@pytest.mark.attack("the wire", "more half-open connections than are kept", times=100)
def test_silent_strangers_push_each_other_out(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "STRANGERS", 64)
    with Coordinator(spec_for(trials=20), url) as coordinator:
        endpoint = coordinator.start()
        with strangers(endpoint, 100) as connections:
            assert work(endpoint, bowl) == 20
            wait_until(lambda: sum(ended(c) for c in connections) == 36, "36 to be sent away")
            assert [ended(c) for c in connections] == [True] * 36 + [False] * 64


@contextlib.contextmanager
def flood(port: int) -> Iterator[subprocess.Popen[str]]:
    """A process that opens connections without end."""
    command = [sys.executable, "-m", "tests.support.flood", str(port), str(HELD), str(RATE)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'jobs'}"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, text=True, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


class Attack(threading.Thread):
    """Reads how many connections a flood has opened."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True)
        self.opened = 0
        self._process = process
        self.start()

    def run(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed
            for line in self._process.stdout:
                self.opened = int(line)


@pytest.mark.attack("the wire", "a flood of half-open connections, 600 a second, from the workers' address", times=1000)
def test_64_workers_behind_the_address_of_a_flood_join_within_a_heartbeat(url: str) -> None:
    heartbeat_s = 60.0  # the default is 10: a slow machine is no attack
    spec = spec_for(trials=2 * WORKERS, tasks=WORKERS, coordinator=CoordinatorSpec(heartbeat_s=heartbeat_s))
    with Coordinator(spec, url) as coordinator:
        endpoint = coordinator.start()
        proxy = SlowProxy(endpoint.port, ROUND_TRIP_S / 2)
        with flood(endpoint.port) as process:
            attack = Attack(process)
            wait_until(lambda: attack.opened > 2 * HELD, "the flood")
            clients = join(replace(endpoint, port=proxy.port), heartbeat_s)
            before = attack.opened
            wait_until(lambda: attack.opened > before + 100, "the flood to go on")
            trials = [client.ask() for client in clients]
            assert len({trial.number for trial in trials if trial is not None}) == WORKERS
            assert attack.opened > 1000
        for client in clients:
            client.close()
        proxy.close()


def join(endpoint: Endpoint, within_s: float) -> list[CoordinatorClient]:
    """As many workers at once, connected."""
    clients: list[CoordinatorClient] = []

    def enter(number: int) -> None:
        clients.append(CoordinatorClient((endpoint.host, endpoint.port), endpoint.secret, f"test:{number}"))

    threads = [threading.Thread(target=enter, args=(number,), daemon=True) for number in range(WORKERS)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, begun + within_s - time.monotonic()))
    logging.getLogger(__name__).info("%s workers joined in %.1f s", len(clients), time.monotonic() - begun)
    assert len(clients) == WORKERS
    return clients


@pytest.mark.attack("the wire", "a recorded opening, played back")
def test_a_recorded_opening_is_worth_nothing_the_second_time(url: str) -> None:
    with Coordinator(spec_for(), url) as coordinator:
        endpoint = coordinator.start()
        words = opening(endpoint.secret).to_bytes()
        with strangers(endpoint, 2) as (first, second):
            first.sendall(words)
            assert len(first.recv(INTRODUCTION_BYTES, socket.MSG_WAITALL)) == INTRODUCTION_BYTES
            second.sendall(words)
            assert second.recv(1000) == b""


def test_a_driver_without_free_file_descriptors_makes_room_for_workers(url: str) -> None:
    with Coordinator(spec_for(), url) as coordinator, socket.socket() as worker:
        endpoint = coordinator.start()
        with strangers(endpoint, 100), all_handles_in_use():
            worker.settimeout(60)
            worker.connect((endpoint.host, endpoint.port))
            worker.sendall(opening(endpoint.secret).to_bytes())
            assert worker.recv(8) == b"OPTSPARK"


@contextlib.contextmanager
def all_handles_in_use() -> Iterator[None]:
    handles = []
    try:
        with contextlib.suppress(OSError):
            while True:
                handles.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for handle in handles:
            os.close(handle)


def test_the_address_with_the_most_strangers_loses_its_oldest() -> None:
    with socket.socket() as connection:
        many, few = ([Stranger(connection, address) for _ in range(n)] for address, n in (("a", 5), ("b", 2)))
        waiting = Strangers()
        for stranger in few + many:
            waiting.add(stranger)
        gone = []
        for _ in range(4):
            gone.append(waiting.first_to_go())
            waiting.discard(gone[-1])
        assert gone == [*many[:3], few[0]]
        assert len(waiting) == 3


def test_an_ipv6_network_counts_as_one_address() -> None:
    assert network(socket.AF_INET6, "2001:db8::1%eth0") == network(socket.AF_INET6, "2001:db8::ffff:1")
    assert network(socket.AF_INET6, "2001:db8:0:1::1") != network(socket.AF_INET6, "2001:db8::1")
    assert network(socket.AF_INET, "10.0.0.1") == "10.0.0.1"
