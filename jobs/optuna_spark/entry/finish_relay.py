"""Passes a request to finish early on to the study: from a file in the run's folder to the database of the driver.

From there it takes the same way as a request that Airflow itself writes to a database that it reaches.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from optuna_spark.storage.finish_file import LONGEST_FILE, asked_by
from optuna_spark.storage.optuna_storage import opened_storage
from optuna_spark.storage.run_marks import FINISH, with_mark

log = logging.getLogger(__name__)

LOOK_S = 3.0
# How long the end of a run waits for a look at a file system that hangs.
LEAVE_S = 10.0


class FinishRelay:
    """Looks for a run's request every `every_s` seconds. A look that fails is logged, and ends nothing.

    Args:
        file: Where the request would be.
        url: The study's database.
        study: Name of the study.
        run_id: The run. A request to another one is ignored.
        every_s: Seconds between two looks.
    """

    def __init__(self, file: Path, url: str, study: str, run_id: str, every_s: float = LOOK_S) -> None:
        self._file, self._url, self._study, self._run_id, self._every_s = file, url, study, run_id, every_s
        self._ended = threading.Event()
        self._said = ""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Look while the block runs.

        After one that ends well the file is gone, so that it ends no later start of the run. A run that fails leaves it
        to its next try: the request may have come after the last look.
        """
        thread = threading.Thread(target=self._watch, daemon=True, name="finish-relay")
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(LEAVE_S)
        with suppress(OSError):  # most runs have no such file
            self._file.unlink()

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                if self._look():
                    return
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001  # whatever file system and database raise: the run goes on
                self._say(f"{type(error).__name__}: {error}")

    def _look(self) -> bool:
        """Pass the request on, if there is one. Returns whether it is passed on."""
        with self._file.open("rb") as file:
            by = asked_by(file.read(LONGEST_FILE + 1), self._run_id)
        if by is None:
            self._say("it is no request to this run")
            return False
        with opened_storage(self._url, prepared=True) as storage:
            study = storage.get_study_id_from_name(self._study)
            marks = storage.get_study_system_attrs(study).get(FINISH)
            storage.set_study_system_attr(study, FINISH, with_mark(marks, self._run_id, by))
        return True

    def _say(self, problem: str) -> None:
        if problem != self._said:  # once, and not every few seconds
            self._said = problem
            log.info("[tuning] The request to finish in %s cannot be heeded: %s", self._file, problem)
