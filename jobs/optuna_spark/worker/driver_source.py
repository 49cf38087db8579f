"""Trials from the driver, with `coordination: driver`."""

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
# Errors that the driver may name in Raised. Others would let it choose any class to raise here.
_RAISED_HERE = {e.__name__: e for e in (ValueError, TypeError, NotImplementedError, OverflowError, RuntimeError)}


class CoordinatorClient:
    """A TrialSource connected to the driver. One thread uses it; another one sends beats.

    A connection that breaks is made again. The trial that ran at that moment is lost: the driver cannot know how it
    ended, so it has its parameters tried again.

    Args:
        address: Host and port of the driver.
        secret: The run's secret.
        worker: This worker's name, host:pid.
        attempts: How often to try to connect. The pauses between five attempts add up to 6 s.

    Raises:
        WireError: No driver of this run answers.
    """

    def __init__(self, address: tuple[str, int], secret: bytes, worker: str, attempts: int = 5) -> None:
        self._address, self._secret, self._worker = address, secret, worker
        self._closed = threading.Event()
        self._waiting_since: float | None = None  # set while this worker waits for an answer
        self._next: Next | None = None  # came with the answer to `tell`, for the next `ask`
        self._uncommitted: int | None = None  # number of the trial told last, until the driver says it is durable
        greeting = self._connect(attempts)
        self._study = RemoteStudy(greeting.study_name, greeting.directions, self._stop)
        self._distributions = greeting.distributions
        beats = threading.Thread(target=self._beat, args=(greeting.heartbeat_s,), daemon=True)
        beats.start()

    def ask(self) -> RemoteTrial | None:
        """The next trial; None when the run is over. Waits while other workers run the last trials."""
        reply, self._next = self._next, None
        breaks = 0
        while reply is None or not (reply.trial or reply.over):
            try:
                reply = self._request(Ask(), Next)
            except WireError:  # no trial runs, so nothing is lost by asking again
                breaks += 1
                if breaks > RECONNECTS:
                    raise
                self._connect_again()
        return self._trial(reply.trial) if reply.trial else None

    def tell(self, trial: RemoteTrial, outcome: Outcome) -> None:
        """Tell the driver how a trial ended. Its answer brings the next trial, too.

        After a long trial that answer may come before the trial is durable, so that the next one can begin.
        """
        told = Tell(trial.number, outcome, trial.take_changes())
        try:
            self.wait_durable()  # at most one told trial is not durable yet
            self._uncommitted = trial.number
            self._next = self._request(told, Next)
        except WireError:
            self._connect_again()
            log.warning("The connection broke before trial %s was stored: it may be tried again", trial.number)

    def wait_durable(self) -> None:
        """Wait until the trial that was told last is in the database.

        Raises:
            WireError: The connection has ended.
        """
        while self._uncommitted is not None:
            self._receive()

    def close(self) -> None:
        """Leave the run, and give back a trial that was not begun. Safe to call twice."""
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
        """Send a request and wait for its answer. A Durable for an earlier trial may come first.

        Raises:
            WireError: The connection has ended.
            Exception: The error that Optuna raised in the driver.
        """
        self._frames.send(request.to_message())
        while isinstance(reply := self._receive(), Durable):
            if reply.next is not None:  # Durable is the answer itself
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
        declared = self._distributions
        known = {name: declared.get(name) or assignment.distributions[name] for name in assignment.params}
        return RemoteTrial(self, assignment, known, self._study)

    def _beat(self, heartbeat_s: float) -> None:
        while not self._closed.wait(heartbeat_s):
            since = self._waiting_since
            if since is not None and time.monotonic() - since > SILENT_BEATS * heartbeat_s:
                self._frames.close()  # wakes the thread that waits, which connects again
            with contextlib.suppress(WireError):  # the thread that uses the connection sees the error itself
                # While an answer is awaited, ask for an echo: if the answer was lost on its way, the echo does not
                # open, and the connection is made again.
                self._frames.send(Beat(echo=since is not None).to_message())

    def _connect(self, attempts: int) -> Greeting:
        """Connect and send this worker's hello; returns the driver's greeting."""
        self._frames, greeting = _open(self._address, self._secret, self._worker, attempts)
        self._frames.notice_silence(SILENT_BEATS * greeting.heartbeat_s)
        return greeting

    def _connect_again(self) -> None:
        self._frames.close()
        self._connect(RECONNECTS)
        log.warning("The connection to the driver broke and was made again")
        # If the driver has got that trial, it commits it, but this new connection will not hear of it.
        self._uncommitted = None


def _open(address: tuple[str, int], secret: bytes, worker: str, attempts: int) -> tuple[FrameSocket, Greeting]:
    """Connect, in a few attempts: a driver whose workers all start at once may not answer the first one."""
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
