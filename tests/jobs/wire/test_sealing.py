"""Somebody between worker and driver who changes what they say: the connection ends, and the study stays true."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from optuna_spark.driver.coordinator import Endpoint
from optuna_spark.spec.sections import CoordinatorSpec, StopSpec
from optuna_spark.wire.sealing import INTRODUCTION_BYTES, Seal, WireError, new_secret
from tests.support.coordination import Coordinator, bowl, finished, spec_for, stored, work
from tests.support.proxy import ManInTheMiddle

HEARTBEAT_S = 0.5
TRIALS = 6
# What ended a run while frames were not sealed.
WORSE = {"state": "COMPLETE", "values": [-1_000_000.0], "error": None}
TEN_RESULTS = [{"op": "tell", "number": number} | WORSE for number in range(10)]
THE_END = [{"durable": 0, "end": True}, {"end": True}]
Trick = Callable[[bytes], list[bytes]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.sqlite3"


class Meddler:
    """Plays one trick on each connection, in one direction; leaves those that come later alone.

    Attributes:
        played: The tricks that were played.
    """

    def __init__(self, to_driver: bool) -> None:
        self.played: list[str] = []
        self._to_driver = to_driver
        self._chance = random.Random(1)
        self._kept: dict[bool, list[bytes]] = {True: [], False: []}
        forged = [json.dumps(message).encode() for message in (TEN_RESULTS if to_driver else THE_END)]
        clear = [struct.pack(">I", len(data)) + data for data in forged]
        self._tricks: dict[str, Trick] = {
            "forge in the clear": lambda frame: [*clear, frame],
            "forge with another key": lambda frame: [*map(Seal(new_secret()).close, forged), frame],
            "replace": lambda frame: clear,
            "flip a bit": self._flip,
            "flip a bit of the length": lambda frame: [frame[:3] + bytes([frame[3] ^ 1]) + frame[4:]],
            "cut": lambda frame: [frame[:-1]],
            "cut and adjust the length": lambda frame: [struct.pack(">I", len(frame) - 5) + frame[4:-1]],
            "lengthen": lambda frame: [frame + b"\0"],
            "repeat": lambda frame: [frame, frame],
            "drop": lambda frame: [],
            "of another connection": lambda frame: [self._kept[to_driver][0], frame],
            "of the other direction": lambda frame: [self._kept[not to_driver][-1], frame],
        }

    def __len__(self) -> int:
        return len(self._tricks)

    @property
    def all(self) -> list[str]:
        return list(self._tricks)

    def __call__(self, connection: int, to_driver: bool, number: int, frame: bytes) -> list[bytes]:
        # The third frame to the driver tells of a trial, the second one to the worker is a trial.
        if to_driver == self._to_driver and number == (2 if to_driver else 1) and connection < len(self):
            name = self.all[connection]
            self.played.append(name)
            frames = self._tricks[name](frame)
        else:
            frames = [frame]
        self._kept[to_driver].append(frame)
        return frames

    def _flip(self, frame: bytes) -> list[bytes]:
        at = self._chance.randrange(4, len(frame))
        return [frame[:at] + bytes([frame[at] ^ 1 << self._chance.randrange(8)]) + frame[at + 1 :]]


@pytest.mark.parametrize("to_driver", [True, False], ids=["to the driver", "to the worker"])
@pytest.mark.attack("the wire", "frames forged, altered, cut, repeated, dropped or swapped by a proxy", times=12)
def test_a_man_in_the_middle_ends_connections_and_forges_nothing(
    url: str, to_driver: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    meddler = Meddler(to_driver)
    stop = StopSpec(max_retries=100)
    spec = spec_for(trials=TRIALS, stop=stop, coordinator=CoordinatorSpec(heartbeat_s=HEARTBEAT_S))
    with Coordinator(spec, url) as coordinator:
        endpoint = coordinator.start()
        proxy = ManInTheMiddle(endpoint.port, INTRODUCTION_BYTES, meddler)
        work_on(replace(endpoint, port=proxy.port))
        proxy.finish()
    assert meddler.played == meddler.all
    assert proxy.connections >= len(meddler) + 1
    done = [t for t in stored(url) if t.state == TrialState.COMPLETE]
    assert len(done) == len(finished(url)) == TRIALS
    assert all(t.value == bowl(optuna.trial.FixedTrial(t.params)) for t in done)
    assert coordinator.snapshot().best_value == min(t.value or 0.0 for t in done) >= 0
    lines = [record for record in caplog.records if record.name == "optuna_spark.driver.server"]
    assert len(lines) == proxy.connections - 1  # the last one ended well
    assert not any(record.exc_info or "\n" in record.getMessage() for record in lines)


def work_on(endpoint: Endpoint) -> None:
    """Be a worker, and another one when that gives up, until the run is over."""
    while True:
        with contextlib.suppress(WireError):
            work(endpoint, bowl)
            return


@pytest.mark.parametrize("to_driver", [True, False], ids=["to the driver", "to the worker"])
@pytest.mark.attack("the wire", "a proxy that keeps everything from one side")
def test_a_connection_on_which_nothing_arrives_any_more_is_given_up(url: str, to_driver: bool) -> None:
    def swallow(connection: int, to: bool, number: int, frame: bytes) -> list[bytes]:
        return [] if connection == 0 and to == to_driver and number > 1 else [frame]

    spec = spec_for(trials=TRIALS, coordinator=CoordinatorSpec(heartbeat_s=HEARTBEAT_S))
    with Coordinator(spec, url) as coordinator:
        endpoint = coordinator.start()
        proxy = ManInTheMiddle(endpoint.port, INTRODUCTION_BYTES, swallow)
        work_on(replace(endpoint, port=proxy.port))
        proxy.finish()
    assert proxy.connections >= 2
    assert len(finished(url)) == TRIALS
