"""Runs the study's writer in a process of its own, so that writing costs the sampler no time.

Python runs one thread at a time. In the driver's process, writing a trial would take 0.6 ms from the sampler, which
needs about 4 ms for a trial. The process gets everything over a pipe, so no password is in argv, in the environment or
on disk. It ends when the pipe is closed, so it does not outlive the driver.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from optuna_spark import own_process
from optuna_spark.errors import WriterDiedError
from optuna_spark.storage.study_writer import NONE, StudyWriter
from optuna_spark.storage.trial_record import TrialRecord

log = logging.getLogger(__name__)

# Seconds that the process may take to end once its pipe is closed: a database that hangs must not hold up the driver.
END_S = 60.0


class WriterProcess:
    """A StudyWriter in another process. Used by one thread at a time.

    Args:
        writer: Moves into the process. The caller must not use it any more.
    """

    def __init__(self, writer: StudyWriter) -> None:
        writer.close()
        self._pipe, self._process = own_process.start(__name__)
        with self._or_died():
            self._pipe.send(writer)

    def write(
        self, records: Sequence[TrialRecord], study_attrs: Mapping[str, Any], user_attrs: Mapping[str, Any] = NONE
    ) -> None:
        """Write as `StudyWriter.write` does; durable when it returns.

        Raises:
            StorageError: Another process writes to this study.
            WriterDiedError: The process has died.
            Exception: The database driver's own, when the database failed.
        """
        self._reply_to((records, study_attrs, user_attrs))

    def study_attr(self, key: str) -> Any:
        """Read as `StudyWriter.study_attr` does.

        Raises:
            WriterDiedError: The process has died.
            Exception: The database driver's own, when the database failed.
        """
        return self._reply_to(key)

    def close(self) -> None:
        """End the process. Safe to call twice."""
        self._pipe.close()
        self._exit_code()

    def _reply_to(self, said: Any) -> Any:
        with self._or_died():
            self._pipe.send(said)
            reply = self._pipe.recv()
        if isinstance(reply, Exception):
            raise reply
        return reply

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
        """Wait for the end of the process, and kill it if it does not end: it has nothing left to do."""
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            log.warning("[tuning] The process that writes to the database did not end within %g s: killed", END_S)
            self._process.kill()
            return self._process.wait(END_S)


def serve(pipe: Connection) -> None:
    """Run in the process: receive the writer, then write each group, until the driver closes the pipe or dies.

    The name of a study's attribute is answered with its value.
    """
    # Airflow sends SIGTERM to every process of a run. This one must still write how the run ended.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(EOFError, ConnectionError):
        writer: StudyWriter = pipe.recv()
        with contextlib.closing(writer):
            while True:
                pipe.send(_reply(writer, pipe.recv()))


def _reply(writer: StudyWriter, said: Any) -> Any:
    try:
        return writer.study_attr(said) if isinstance(said, str) else writer.write(*said)
    except Exception as error:  # noqa: BLE001  # the driver decides what it means
        return error


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
    os._exit(0)  # skips the interpreter's cleanup: the driver waits for the end, and nothing is left to clean up
