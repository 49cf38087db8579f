"""A worker's source of trials in a run that the driver coordinates."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TypeVar

from optuna.distributions import BaseDistribution

from optuna_spark.wire.frames import SILENT_BEATS, FrameSocket
from optuna_spark.wire.messages import (
    Answer,
    Ask,
    Assignment,
    Beat,
    Bye,
    Changes,
    Durable,
    Echo,
    Greeting,
    Hello,
    Next,
    Outcome,
    Prune,
    Pruning,
    Raised,
    Request,
    Stop,
    Stopped,
    Suggest,
    Suggested,
    Tell,
    Update,
    from_driver,
)
from optuna_spark.wire.sealing import WireError
from optuna_spark.worker.trial import RemoteStudy, RemoteTrial

log = logging.getLogger(__name__)

A = TypeVar("A")

CONNECT_S = 10.0
RECONNECTS = 3
_RAISED_HERE = {e.__name__: e for e in (ValueError, TypeError, NotImplementedError, OverflowError, RuntimeError)}


class CoordinatorClient:
    """A TrialSource connected to the driver. Used by one thread; a second one sends beats.

    A connection that breaks is made again. The trial it broke in is lost: the driver, which could not know
    better, has its parameters tried again.

    Args:
        address: Host and port of the driver.
        secret: The run's secret.
        worker: This worker's name, host:pid.
        attempts: How often to try to connect, about 12 s in all.

    Raises:
        WireError: No driver of this run answers.
    """

    def __init__(self, address: tuple[str, int], secret: bytes, worker: str, attempts: int = 5) -> None:
        self._address, self._secret, self._worker = address, secret, worker
        self._closed = threading.Event()
        self._waiting_since: float | None = None
        self._next: Next | None = None
        self._uncommitted: int | None = None  # the trial told last, while it may not be in the database yet
        greeting = self._connect(attempts)
        self._study = RemoteStudy(greeting.study_name, greeting.directions, self._stop)
        self._distributions = greeting.distributions
        beats = threading.Thread(target=self._beat, args=(greeting.heartbeat_s,), daemon=True)
        beats.start()

    def ask(self) -> RemoteTrial | None:
        """The next trial; waits while all that are left are being run. None when the run is over."""
        reply, self._next = self._next, None
        breaks = 0
        while reply is None or not (reply.trial or reply.over):
            try:
                reply = self._request(Ask(), Next)
            except WireError:
                breaks += 1
                if breaks > RECONNECTS:
                    raise
                self._connect_again()
        return self._trial(reply.trial) if reply.trial else None

    def tell(self, trial: RemoteTrial, outcome: Outcome) -> None:
        """Record how a trial ended. The reply brings the next trial, after a long one before that is durable.

        `wait_durable` waits for that; no further trial is told before.
        """
        told = Tell(trial.number, outcome, trial.take_changes())
        try:
            self.wait_durable()
            self._uncommitted = trial.number
            self._next = self._request(told, Next)
        except WireError:
            self._connect_again()
            log.warning("Trial %s was not told before the connection broke; it may be tried again", trial.number)

    def wait_durable(self) -> None:
        """Wait until the trial told last is in the database.

        Raises:
            WireError: The connection has ended.
        """
        while self._uncommitted is not None:
            self._receive()

    def close(self) -> None:
        """Leave, giving back a trial that was not begun; safe to call twice."""
        if self._closed.is_set():
            return
        self._closed.set()
        unbegun = (self._next.trial.number,) if self._next and self._next.trial else ()
        with contextlib.suppress(WireError):  # the driver may have gone first
            self._frames.send(Bye(unbegun).to_message())
        self._frames.close()

    def suggest(self, number: int, name: str, distribution: BaseDistribution) -> float:
        return self._request(Suggest(number, name, distribution), Suggested).value

    def should_prune(self, number: int, changes: Changes) -> bool:
        return self._request(Prune(number, changes), Pruning).prune

    def update(self, number: int, changes: Changes) -> None:
        self._frames.send(Update(number, changes).to_message())

    def _stop(self) -> None:
        self._request(Stop(), Stopped)

    def _request(self, request: Request, expected: type[A]) -> A:
        """Send a request and wait for its answer; one that a trial is durable may come before.

        Raises:
            WireError: The connection has ended.
            Exception: What Optuna has raised in the driver.
        """
        self._frames.send(request.to_message())
        while isinstance(reply := self._receive(), Durable):
            if reply.next is not None:
                reply = reply.next
                break
        if isinstance(reply, Raised):
            raise _RAISED_HERE[reply.kind](reply.text)
        if not isinstance(reply, expected):
            raise WireError(f"the driver answers {request.op} with {reply.op}")
        return reply

    def _receive(self) -> Answer:
        try:
            self._waiting_since = time.monotonic()
            while isinstance(answer := from_driver(self._frames.receive()), Echo):
                self._waiting_since = time.monotonic()
        finally:
            self._waiting_since = None
        if isinstance(answer, Durable):
            self._uncommitted = None
        return answer

    def _trial(self, assignment: Assignment) -> RemoteTrial:
        known = {name: self._distributions[name] for name in assignment.params}
        return RemoteTrial(self, assignment, known, self._study)

    def _beat(self, heartbeat_s: float) -> None:
        while not self._closed.wait(heartbeat_s):
            since = self._waiting_since
            if since is not None and time.monotonic() - since > SILENT_BEATS * heartbeat_s:
                self._frames.close()  # and whoever waits connects again
            with contextlib.suppress(WireError):  # the worker's own thread finds out by itself
                # Who waits gets an echo: if an answer was kept from it, what follows does not open.
                self._frames.send(Beat(echo=since is not None).to_message())

    def _connect(self, attempts: int) -> Greeting:
        """Connect and introduce this worker; returns the driver's greeting."""
        self._frames, greeting = _open(self._address, self._secret, self._worker, attempts)
        self._frames.notice_silence(SILENT_BEATS * greeting.heartbeat_s)
        return greeting

    def _connect_again(self) -> None:
        self._frames.close()
        self._connect(RECONNECTS)
        log.warning("The connection to the driver broke and was made again")
        self._uncommitted = None


def _open(address: tuple[str, int], secret: bytes, worker: str, attempts: int) -> tuple[FrameSocket, Greeting]:
    """Connect, a few times: a driver that starts many workers at once may not answer the first call."""
    for attempt in range(1, attempts + 1):
        try:
            return _greeted(FrameSocket.connect(address, secret, CONNECT_S), worker)
        except (OSError, WireError) as error:
            if attempt == attempts:
                raise WireError(
                    f"no driver of this run answers at {address[0]}:{address[1]} ({error}): workers must reach the"
                    " driver there; open the port (coordinator.port) or set coordination to database"
                ) from error
        time.sleep(0.2 * 2**attempt)
    raise AssertionError


def _greeted(frames: FrameSocket, worker: str) -> tuple[FrameSocket, Greeting]:
    try:
        frames.send(Hello(worker).to_message())
        return frames, Greeting.from_message(frames.receive())
    except BaseException:
        frames.close()
        raise
