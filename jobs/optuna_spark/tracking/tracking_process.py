"""The process that talks to MLflow: the only one that imports its package, or waits for its server.

It gets the server's address and login over a pipe, so they are in no argv, in no file and in no other process's
environment. It ends when the pipe is closed, so it does not outlive the driver for long.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from http import HTTPStatus
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.trial import FrozenTrial

from optuna_spark import own_process
from optuna_spark.tracking.child_run import child_run
from optuna_spark.tracking.messages import Answers, AskMirrored, Ended, Mirror, Sync, Synced
from optuna_spark.tracking.target import TrackingTarget

if TYPE_CHECKING:
    from optuna_spark.tracking.mlflow_runs import MlflowRuns

T = TypeVar("T")

# Seconds before a request that failed is tried again; the pause doubles each time.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 15.0
# What HTTP says of a request that may go well later.
_LATER = (408, 425, 429, 500, 502, 503, 504)
# A trial costs the process some milliseconds of CPU, which no trial that runs shall miss.
NICE = 10
# Its package reports its use to its makers otherwise.
NO_REPORTS = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


class TrackingProcess:
    """The process, as its starter sees it. Sending and receiving may be done by two threads."""

    def __init__(self) -> None:
        self.pipe, self._process = own_process.start(__name__, environment=NO_REPORTS, quiet=True)

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end of the process. Returns whether it came."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def end(self) -> None:
        """End it now: what it has not written is missing until somebody catches up."""
        self._process.kill()
        self._process.wait()


def serve(pipe: Connection) -> None:
    """Run in the process: do what is asked until the pipe is closed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICE)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            said = pipe.recv()
            if isinstance(said, Mirror):
                _Mirroring(pipe, said).run()
            elif isinstance(said, AskMirrored):
                pipe.send(_mirrored(said.target))
            elif isinstance(said, Sync):
                pipe.send(sync(said))


class _Mirroring:
    """Writes each trial that comes, for as long as it takes."""

    def __init__(self, pipe: Connection, asked: Mirror) -> None:
        self._pipe, self._asked, self._starter = pipe, asked, os.getppid()
        self._runs: MlflowRuns | None = None
        self._answers: bool | None = None  # as the starter was told

    def run(self) -> None:
        self._patiently(lambda: self._opened().begin())
        while not isinstance(said := self._pipe.recv(), Ended):
            trial: FrozenTrial = said
            child = child_run(trial, self._asked.target.metric_names)
            self._patiently(lambda child=child: self._opened().write(child))  # type: ignore[misc]
        status = "FINISHED" if said.well else "FAILED"
        self._patiently(lambda: self._opened().end(status))

    def _opened(self) -> MlflowRuns:
        if self._runs is None:
            self._runs = open_runs(self._asked.target, self._asked.run_id)
        return self._runs

    def _patiently(self, action: Callable[[], Any]) -> None:
        """Try until it works, or until trying again makes no sense."""
        for pause_s in pauses():
            try:
                action()
            except Exception as error:  # noqa: BLE001  # whatever it is, no trial hangs on it
                self._runs = None  # what the server has done of it is not known
                self._tell(problem_of(error))
                if not can_help(error):
                    return
                time.sleep(pause_s)
                if os.getppid() != self._starter:
                    raise EOFError from None
            else:
                self._tell("")
                return

    def _tell(self, problem: str) -> None:
        if (not problem) is not self._answers:
            self._answers = not problem
            self._pipe.send(Answers(problem))


def sync(asked: Sync) -> Synced:
    """Write what MLflow lacks of a run's trials, each exactly once, whatever is there already."""
    deadline, written, before = time.monotonic() + asked.limit_s, 0, 0
    answered = time.monotonic()
    runs: MlflowRuns | None = None
    left = deque(sorted(asked.trials, key=lambda trial: trial.number))
    pause = pauses()
    while True:
        try:
            runs = runs or open_runs(asked.target, asked.run_id)
            while left:
                if time.monotonic() > deadline:
                    return Synced(written, before, f"it takes longer than {asked.limit_s:g} s")
                if runs.write(child_run(left[0], asked.target.metric_names)):
                    written += 1
                else:
                    before += 1
                left.popleft()
                pause, answered = pauses(), time.monotonic()
            runs.remove_others({trial.number for trial in asked.trials})
            runs.note_all_there(len(asked.trials))
            if asked.ended_well or runs.going_on:
                runs.end("FINISHED")
        except Exception as error:  # noqa: BLE001  # as above
            runs = None
            pause_s = next(pause)
            if not can_help(error) or time.monotonic() + pause_s > min(deadline, answered + asked.patience_s):
                return Synced(written, before, problem_of(error))
            time.sleep(pause_s)
        else:
            return Synced(written, before)


def _mirrored(target: TrackingTarget) -> dict[str, int] | Answers:
    from optuna_spark.tracking.mlflow_runs import connect, mirrored

    try:
        return mirrored(connect(target.server), target)
    except Exception as error:  # noqa: BLE001  # as above
        return Answers(problem_of(error))


def open_runs(target: TrackingTarget, run_id: str) -> MlflowRuns:
    """The runs of a run, as the server has them now."""
    from optuna_spark.tracking.mlflow_runs import MlflowRuns, connect

    return MlflowRuns(connect(target.server), target, run_id)


def pauses() -> Iterator[float]:
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def can_help(error: Exception) -> bool:
    """Whether trying again can help: not where the server has said no."""
    status = _status(error)
    return status is None or status in _LATER


def problem_of(error: Exception) -> str:
    """What went wrong, without a word of the server's: it may quote what it was sent."""
    status = _status(error)
    if status is None:
        return type(error.__context__ or error).__name__
    return f"HTTP {status} {getattr(error, 'error_code', '')}".rstrip()


def _status(error: Exception) -> int | None:
    """The server's answer; None where there was none, which MLflow calls an internal error of its own."""
    kind = type(error).__name__
    if kind not in ("RestException", "MlflowException"):
        return None
    status: int = error.get_http_status_code()  # type: ignore[attr-defined]
    return None if kind == "MlflowException" and status == HTTPStatus.INTERNAL_SERVER_ERROR else status


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
    os._exit(0)  # skips the interpreter's cleanup: nothing is left to clean up
