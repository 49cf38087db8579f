"""Trials from the driver, with `coordination: driver`."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import optuna
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
    Enqueue,
    Enqueued,
    Greeting,
    Hello,
    Next,
    Noted,
    Outcome,
    Page,
    Part,
    Prune,
    Pruning,
    Raised,
    Read,
    Relative,
    RelativeParams,
    Request,
    SetStudyAttr,
    Stop,
    Stopped,
    Suggest,
    Suggested,
    Tell,
    Update,
    from_driver,
)
from optuna_spark.wire.sealing import WireError
from optuna_spark.worker.driver_storage import DriverStorage
from optuna_spark.worker.own_trial import OwnTrial
from optuna_spark.worker.study import DriversPruner, DriversSampler, WorkerStudy
from optuna_spark.worker.trial import RemoteTrial

log = logging.getLogger(__name__)

A = TypeVar("A")

CONNECT_S = 10.0
RECONNECTS = 3
# Errors that the driver may name in Raised. Others would let it choose any class to raise here.
_RAISED_HERE = {e.__name__: e for e in (ValueError, TypeError, NotImplementedError, OverflowError, RuntimeError)}


class CoordinatorClient:
    """A TrialSource connected to the driver, and its trials' way to the study. Another thread of it sends beats.

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
        self._talking = threading.RLock()  # an objective's threads may read the study at once
        self._waiting_since: float | None = None  # set while this worker waits for an answer
        self._next: Next | None = None  # came with the answer to `tell`, for the next `ask`
        self._uncommitted: int | None = None  # number of the trial told last, until the driver says it is durable
        greeting = self._connect(attempts)
        self._storage = DriverStorage(self, greeting.study_name, greeting.directions)
        study = optuna.Study(greeting.study_name, self._storage, DriversSampler(), DriversPruner())
        self._study = WorkerStudy(study, self._stop)
        self._own: OwnTrial | None = None
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
        assert self._own is not None
        self._own.ended = True
        told = Tell(trial.number, outcome, self._own.take_changes())
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
        with self._talking:
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

    def relative_params(self, number: int) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        answer = self._request(Relative(number), RelativeParams)
        space = dict(answer.distributions)
        return {name: space[name].to_external_repr(value) for name, value in answer.params.items()}, space

    def read(self, part: Part, since: int) -> Any:
        """Read a part of the study; returns the answer's JSON.

        Raises:
            WireError: The connection has ended.
            ValueError, RuntimeError: There is no best trial.
        """
        with self._talking:
            pages = [self._request(Read(part, since), Page)]
            while pages[-1].more:
                pages.append(self._answer(Page, "read"))
        return json.loads("".join(page.text for page in pages))

    def enqueue(self, params: Mapping[str, Any], user_attrs: Mapping[str, Any]) -> int:
        return self._request(Enqueue(params, user_attrs), Enqueued).number

    def set_study_attr(self, key: str, value: Any, system: bool) -> None:
        self._request(SetStudyAttr(key, value, system), Noted)

    def _stop(self) -> None:
        self._request(Stop(), Stopped)

    def _request(self, request: Request, expected: type[A]) -> A:
        """Send a request and wait for its answer.

        Raises:
            WireError: The connection has ended.
            Exception: The error that Optuna raised in the driver.
        """
        with self._talking:
            self._frames.send(request.to_message())
            return self._answer(expected, request.op)

    def _answer(self, expected: type[A], asked: str) -> A:
        """Wait for an answer. A Durable for an earlier trial may come first."""
        while isinstance(reply := self._receive(), Durable):
            if reply.next is not None:  # Durable is the answer itself
                reply = reply.next
                break
        if isinstance(reply, Raised):
            raise _RAISED_HERE[reply.kind](reply.text)
        if not isinstance(reply, expected):
            raise WireError(f"the driver answers {asked} with {reply.op}")
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
        self._own = OwnTrial(self, assignment, known)
        self._storage.begin(self._own)
        return RemoteTrial(self._study, self._own.frozen)

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
