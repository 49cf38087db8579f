"""The study's writer in a process of its own, so that talking to the database costs the sampler no time.

Python runs one thread at a time: in the driver's process a written trial would cost 0.6 ms of the sampler's 4, although
a core is idle meanwhile. What the process is sent comes over a pipe that only the two have: no password in argv, in the
environment or on disk. It ends with the pipe, so it outlives no driver.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from optuna_spark.errors import WriterDiedError
from optuna_spark.storage.study_writer import StudyWriter
from optuna_spark.storage.trial_record import TrialRecord
from optuna_spark.storage.url import URL_VARIABLE

log = logging.getLogger(__name__)

# From the end of its pipe to the end of the process: a database that hangs must not hold the driver.
END_S = 60.0


class WriterProcess:
    """A StudyWriter that works elsewhere. Used by one thread at a time.

    A plain process, not one of `multiprocessing`: those import the caller's script again, which not every script bears.

    Args:
        writer: Moves into the process, and is not used here any more.
    """

    def __init__(self, writer: StudyWriter) -> None:
        writer.close()
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # It ends when the driver has written all, not when somebody interrupts the driver's group.
                process_group=0,
                env=_environment(),
            )
        with self._or_died():
            self._pipe.send(writer)

    def write(self, records: Sequence[TrialRecord], study_attrs: Mapping[str, Any]) -> None:
        """As StudyWriter's: durable when it returns.

        Raises:
            StorageError: As there.
            WriterDiedError: The process has died.
            Exception: The database driver's own, when the database failed.
        """
        with self._or_died():
            self._pipe.send((records, study_attrs))
            error: Exception | None = self._pipe.recv()
        if error is not None:
            raise error

    def close(self) -> None:
        """End the process; safe to call twice."""
        self._pipe.close()
        self._exit_code()

    @contextlib.contextmanager
    def _or_died(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError):
            code = self._exit_code()
            raise WriterDiedError(
                f"the process that writes to the database died with exit code {code}: start this run again; it goes on"
            ) from None

    def _exit_code(self) -> int:
        """Wait for its end: it has nothing left to do, so one that does not end is killed."""
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            log.warning("[tuning] The process that writes to the database did not end within %g s: killed", END_S)
            self._process.kill()
            return self._process.wait(END_S)


def _environment() -> dict[str, str]:
    """What the process finds its packages with, and no password."""
    inherited = {name: value for name, value in os.environ.items() if name != URL_VARIABLE}
    return inherited | {"PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)}


def serve(pipe: Connection) -> None:
    """Be that process: take the writer, then write what comes, until the driver closes the pipe or is gone."""
    # Who ends a run may signal every process of it; this one has yet to write how the run ended.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(EOFError, ConnectionError):
        writer: StudyWriter = pipe.recv()
        with contextlib.closing(writer):
            while True:
                pipe.send(_error_of(writer, *pipe.recv()))


def _error_of(writer: StudyWriter, records: Sequence[TrialRecord], study_attrs: Mapping[str, Any]) -> Exception | None:
    try:
        writer.write(records, study_attrs)
    except Exception as error:  # noqa: BLE001  # the driver decides what it means
        return error
    return None


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
    os._exit(0)  # the driver waits; nothing is left to tidy up
