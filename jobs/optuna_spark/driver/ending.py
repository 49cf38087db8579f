"""SIGTERM ends a run in good order, once, and within a time limit."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from optuna_spark.errors import RunEndedError

log = logging.getLogger(__name__)

# Seconds from SIGTERM to the end of this process. A database, a cluster or an objective's thread may hang for ever.
END_S = 20.0
EXIT_CODE = 128 + signal.SIGTERM


class Ending:
    """Handles SIGTERM: the first one raises RunEndedError in the main thread, further ones do nothing.

    Airflow, systemd and a person may each send SIGTERM to every process of the run, and more than once. A second
    exception would interrupt the tidying up that the first one began.
    """

    def __init__(self) -> None:
        self._asked = False
        self._tidying = 0
        self._watch: threading.Timer | None = None

    @property
    def asked(self) -> bool:
        """Whether a SIGTERM came."""
        return self._asked

    def on_sigterm(self) -> None:
        """Handle SIGTERM from now on. Only for the main thread of a program that is all ours."""
        signal.signal(signal.SIGTERM, self._end)

    @contextlib.contextmanager
    def during_a_run(self) -> Iterator[None]:
        """Handle SIGTERM in this block if nobody does: it would end the program in the middle of its trials.

        A program of somebody else's calls `tune`. Once that has ended, SIGTERM is theirs again, and the time is over in
        which this process would be ended hard.
        """
        main = threading.current_thread() is threading.main_thread()
        if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            yield
            return
        self.on_sigterm()
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if self._watch is not None:
                self._watch.cancel()
            self._asked, self._watch = False, None

    @contextlib.contextmanager
    def tidying(self) -> Iterator[None]:
        """Let SIGTERM raise nothing in this block: the run is ending already, and its last steps must be done."""
        self._tidying += 1
        try:
            yield
        finally:
            self._tidying -= 1

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            return
        self._asked = True
        # A thread, because the main one may hang in a call that no exception interrupts.
        self._watch = threading.Timer(END_S, self._give_up)
        self._watch.daemon = True
        self._watch.start()
        if not self._tidying:
            raise RunEndedError("the run was ended from outside (SIGTERM)")

    @staticmethod
    def _give_up() -> None:
        log.error("[tuning] The run did not end within %g s of SIGTERM: its process ends now", END_S)
        os._exit(EXIT_CODE)  # sys.exit would wait for the threads that hang


ENDING = Ending()
