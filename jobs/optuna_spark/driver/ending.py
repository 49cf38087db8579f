"""A run that is ended from outside: SIGTERM ends it in good order, once, and within a limit."""

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

# From SIGTERM to the end of this process, whatever hangs: a database, a cluster, an objective's thread.
END_S = 20.0
EXIT_CODE = 128 + signal.SIGTERM


class Ending:
    """What SIGTERM does to this process: the first one raises RunEndedError in the main thread, further ones nothing.

    Airflow, systemd and a person may each send one, to every process of the run, and more than once.
    """

    def __init__(self) -> None:
        self._asked = False
        self._tidying = 0

    @property
    def asked(self) -> bool:
        """Whether a SIGTERM came."""
        return self._asked

    def on_sigterm(self) -> None:
        """Take SIGTERM from now on; for the main thread of a program of its own."""
        signal.signal(signal.SIGTERM, self._end)

    @contextlib.contextmanager
    def tidying(self) -> Iterator[None]:
        """In this block SIGTERM raises nothing: the run ends already, and what it does for that must be done."""
        self._tidying += 1
        try:
            yield
        finally:
            self._tidying -= 1

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            return
        self._asked = True
        watch = threading.Timer(END_S, self._give_up)
        watch.daemon = True
        watch.start()
        if not self._tidying:
            raise RunEndedError("the run was ended from outside (SIGTERM)")

    @staticmethod
    def _give_up() -> None:
        log.error("[tuning] The run did not end within %g s of SIGTERM: ended hard", END_S)
        os._exit(EXIT_CODE)


ENDING = Ending()
