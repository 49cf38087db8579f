"""Whole transactions that are tried again when the database was away for a moment, or a lock was in the way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from optuna_spark.database.connection import Database, Transaction
from optuna_spark.database.mysql_errors import comes_back, driver_error, explain, is_about_data
from optuna_spark.database.retries import ATTEMPTS, pause

log = logging.getLogger(__name__)

T = TypeVar("T")


class PatientDatabase:
    """One connection, for the threads of a process in turn.

    Args:
        url: The database.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self._url, self._database = url, Database(url)
        self._lock = threading.Lock()

    def run(self, work: Callable[[Transaction], T]) -> T:
        """Run a transaction, with pauses that grow, for about 40 s at most.

        Args:
            work: Makes its statements. It may run again, even after one whose commit happened: nobody had confirmed it.

        Raises:
            StorageError: Trying again does not help, or did not.
            Exception: What `work` raises, such as the database driver's own error about the data.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._once(work)
            except Exception as error:
                if not comes_back(error) or attempt == ATTEMPTS:
                    if is_about_data(error) or not isinstance(driver_error(error), self._database.driver_error):
                        raise
                    raise explain(error, self._url) from error
                log.warning("The database does not answer, attempt %s of %s: %s", attempt, ATTEMPTS, error)
                pause(attempt)
        raise AssertionError("unreachable")

    def _once(self, work: Callable[[Transaction], T]) -> T:
        with self._lock, self._database.transaction() as transaction:
            return work(transaction)

    def close(self) -> None:
        """Close the connection; another transaction would open one again."""
        with self._lock:
            self._database.close()
