"""Errors a user can cause or has to act on: each message says the rule, the value and the next step."""

from __future__ import annotations

import traceback

ERROR_LINES = 12


class TuningError(Exception):
    """Base of every error this package raises on purpose."""


class SpecError(TuningError):
    """The description of a study is wrong; `key` names the offending entry, dotted."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key


class StorageError(TuningError):
    """The database cannot be reached, refuses the account, or holds something else than expected."""


class TlsError(StorageError):
    """TLS to the database was asked for in words that are wrong, or cannot be had."""


class WriterDiedError(StorageError):
    """The process that writes to the database for the driver was killed."""


class StudyMismatchError(TuningError):
    """The stored study does not fit the spec (directions or search space differ)."""


class StudyNameError(TuningError):
    """The database takes the study's name for that of another one."""


class DataError(TuningError):
    """The training table is missing, unreadable or unusable."""


class DeviceError(TuningError):
    """A GPU was asked for and cannot be used."""


class RunEndedError(TuningError):
    """Somebody ended the run from outside; what finished is kept, and the run can go on."""


class TrialLimitError(TuningError):
    """Too many trials failed; the message carries the first cause."""


def error_text(error: BaseException) -> str:
    """The last lines of an exception's traceback: what a person reads first."""
    lines = "".join(traceback.format_exception(error)).strip().splitlines()
    return "\n".join(lines[-ERROR_LINES:])
