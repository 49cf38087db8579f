"""Errors own what their card says, and keep their class on the way from a worker to the driver."""

from __future__ import annotations

import pytest

from optuna_spark.entry.failure_report import describe_failure
from optuna_spark.errors import (
    DataError,
    SpecError,
    StorageError,
    TlsError,
    TrialLimitError,
    TuningError,
    WriterDiedError,
    error_class,
)


@pytest.mark.parametrize("kind", [SpecError, DataError, StorageError, TlsError, WriterDiedError, TrialLimitError])
def test_an_error_is_found_by_its_name(kind: type[TuningError]) -> None:
    assert error_class(kind.__name__) is kind


@pytest.mark.parametrize("name", [None, "", "OSError", "TuningError", "__name__", "__doc__", "ClassVar", "error_class"])
def test_any_other_name_is_that_of_no_error_of_ours(name: str | None) -> None:
    assert error_class(name) is TuningError


class MoreExactError(DataError):
    """A child that says nothing of its own."""


def test_a_child_takes_over_what_its_parent_says() -> None:
    assert error_class("MoreExactError") is MoreExactError
    assert describe_failure(MoreExactError("x"))["next"] == DataError.next
    assert not MoreExactError.retry


def test_an_error_of_which_only_the_log_knows_more_says_so() -> None:
    for error in (TuningError("the workers ended"), OSError("disk")):
        assert describe_failure(error)["next"] == "Read the log above this card from its first error on."


@pytest.mark.parametrize(
    ("error", "headline"),
    [
        (KeyError("grid_id"), "KeyError: 'grid_id'"),
        (ValueError("\n  x = 1 / 0\nfailed"), "ValueError: x = 1 / 0"),
        (AssertionError(), "AssertionError"),
        (
            RuntimeError("stage failed\nCaused by: java.io.IOException: disk full\n\tat x"),
            "java.io.IOException: disk full",
        ),
        (RuntimeError("stage failed\nValueError: no label\n\tat x"), "ValueError: no label"),
    ],
)
def test_the_headline_of_an_error_that_is_not_ours_names_its_class(error: Exception, headline: str) -> None:
    assert describe_failure(error)["what"] == headline
