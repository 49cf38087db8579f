"""Errors a user can cause or has to act on: each message says the rule, the value and the next step."""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Iterator
from typing import ClassVar

ERROR_LINES = 12


class TuningError(Exception):
    """Base of every error this package raises on purpose.

    Attributes:
        next: What the reader can do, for the card of a failed task; empty where only the log says more.
        retry: Whether to try again, unchanged, may help.
    """

    next: ClassVar[str] = ""
    retry: ClassVar[bool] = True


def error_class(name: str | None) -> type[TuningError]:
    """The class of an error that another process has told the name of; of any other name TuningError."""
    return next((kind for kind in _below(TuningError) if kind.__name__ == name), TuningError)


def _below(kind: type[TuningError]) -> Iterator[type[TuningError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


class SpecError(TuningError):
    """The description of a study is wrong; `key` names the offending entry, dotted."""

    next = "Correct the study file or the trigger form, then run again."
    retry = False

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key


class StorageError(TuningError):
    """The database cannot be reached, refuses the account, or holds something else than expected."""

    next = "Correct the database connection, then run again: finished trials are kept."


class TlsError(StorageError):
    """TLS to the database was asked for in words that are wrong, or cannot be had."""

    next = "Correct ssl_mode, ssl_ca, ssl_cert or ssl_key in the Airflow connection's extra, or the server."
    retry = False


class WriterDiedError(StorageError):
    """The process that writes to the database for the driver was killed."""

    next = "See whether the driver's machine ran out of memory, then run again: finished trials are kept."


class StudyGoneError(StorageError):
    """The study was deleted while a run worked on it, and its trials with it."""

    next = "Trigger a new run, which begins the study anew; what was exported before stays."
    retry = False

    @classmethod
    def of(cls, study_name: str) -> StudyGoneError:
        """The error of a run of this study."""
        return cls(f"study {study_name!r} was deleted while this run worked on it, and its trials with it")


class StudyMismatchError(TuningError):
    """The stored study does not fit the spec (directions or search space differ)."""

    next = "Use another study name, or trigger with mode reset to begin anew."
    retry = False


class StudyNameError(TuningError):
    """The database takes the study's name for that of another one."""

    next = "Choose a study name that differs from the other one in more than capital letters."
    retry = False


class DataError(TuningError):
    """The training table is missing, unreadable or unusable."""

    next = "Correct data in the study file, then run again."
    retry = False


class DeviceError(TuningError):
    """A GPU was asked for and cannot be used."""

    next = "Check the cluster's GPUs, or set resources.gpus_per_task to 0 for the CPU."
    retry = False


class SparkSettingsError(TuningError):
    """Spark refuses a property of the application; the message is Spark's own."""

    next = "Correct spark or resources in the study file, then run again."
    retry = False


class ResourcesError(TuningError):
    """No worker of the cluster has what one executor needs, and none that has it joined in time."""

    next = (
        "Lower resources, spark.executor_cores or spark.executor_memory in the study file, or give the cluster a worker"
        " that has them."
    )


class RunEndedError(TuningError):
    """Somebody ended the run from outside; what finished is kept, and the run can go on."""

    next = "Start the run again: it goes on, and tries again what was running."


class TrialLimitError(TuningError):
    """Too many trials failed; the message carries the first cause."""

    next = "Correct the objective or the search space, then run again: finished trials are kept."
    retry = False


class ModelError(TuningError):
    """The final model cannot be trained, scored or saved."""

    next = "Put right what the sentence names, then clear task train_final_model: the trials are kept."
    retry = False


class ExportError(TuningError):
    """A study holds nothing to export, or the export cannot be written."""

    next = "Put right what the sentence names, then clear task export_best_trials: the trials are kept."
    retry = False


def error_text(error: BaseException) -> str:
    """The last lines of an exception's traceback: what a person reads first.

    The place in the user's own code comes first where those lines are all of libraries it called.
    """
    lines = "".join(traceback.format_exception(error)).strip().splitlines()
    shown, own = lines[-ERROR_LINES:], own_place(error)
    return "\n".join(shown if own is None or own in shown else [own, "    ...", *shown])


def own_place(error: BaseException) -> str | None:
    """The last line of the traceback that is in the user's own code, as tracebacks write it; None if there is none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_library(f.filename)]
    return f'  File "{frames[-1].filename}", line {frames[-1].lineno}, in {frames[-1].name}' if frames else None


def _is_library(file: str) -> bool:
    return file.startswith(_LIBRARIES) or "/site-packages/" in file or "/dist-packages/" in file


# Folders of Python, of installed packages and of this package; in `<frozen ...>` is code of Python's own.
_LIBRARIES = (
    *(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    os.path.dirname(__file__) + os.sep,  # noqa: PTH120  # it may be in a zip
    "<frozen ",
)
