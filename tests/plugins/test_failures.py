"""A failure becomes one card, and is tried again only where that can help."""

from __future__ import annotations

import pymysql
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.log import mask_logs, mask_secret
from sqlalchemy.exc import OperationalError

from optuna_spark import errors
from optuna_spark.entry.failure_report import describe_failure as report_of
from optuna_spark.errors import DataError, SpecError, StorageError, StudyMismatchError, TuningError
from tuning_pipeline.failures import (
    WIDTH,
    Failure,
    TaskError,
    as_airflow_error,
    card,
    describe_failure,
    driver_failure,
    masked,
    readable_failures,
)

ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TuningError)]
FALLBACK = "Read the log above this card from its first error on."


def test_a_card_says_what_why_next_and_where() -> None:
    failure = Failure("It broke.", why="line one\nline two", next="Mend it.", where="the log")
    assert card(failure, "tune failed").splitlines() == [
        "┌ tune failed",
        "│ What   It broke.",
        "│ Why    line one",
        "│        line two",
        "│ Next   Mend it.",
        "│ Where  the log",
        "└",
    ]


def test_what_airflow_masks_in_a_log_is_masked_in_the_tabs_card() -> None:
    secret = "of-this-test/only"  # what another test masked must be no part of it: Airflow would mask that first
    mask_secret(secret)
    text = f"┌ tune failed\n│ What   no login with {secret}\n└"
    assert masked(text) == text.replace(secret, "***")
    assert masked(text) == mask_logs(None, "error", {"event": text})["event"]


def test_a_card_leaves_out_what_is_unknown() -> None:
    lines = card(Failure("It broke."), "x").splitlines()
    assert lines == ["┌ x", "│ What   It broke.", f"│ Next   {FALLBACK}", "└"], "there is always a next step"


def test_a_card_keeps_long_texts_in_the_box() -> None:
    lines = card(Failure("word " * 60), "x").splitlines()
    assert all(line.startswith(("┌", "│", "└")) and len(line) <= WIDTH for line in lines)


@pytest.mark.parametrize(
    "whole",
    [
        "/opt/air-flow/a-checkout-with-a-long-name/dags/studies/" + "deep-er/" * 12 + "file-1.csv",
        "https://adb-123.azuredatabricks.net/?o=1#job/" + "9" * 90 + "/run/1-2",
    ],
)
def test_a_path_or_an_address_stays_in_one_piece(whole: str) -> None:
    text = card(Failure(f"It is not at {whole} any more.", next=f"See {whole}."), "x")
    assert text.count(whole) == 2


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (SpecError("wrong"), False),
        (StudyMismatchError("differs"), False),
        (DataError("empty"), False),
        (StorageError("gone"), True),
        (TaskError(Failure("down", retry=True)), True),
        (TaskError(Failure("refused")), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, retry: bool) -> None:
    @readable_failures
    def task() -> None:
        raise error

    with pytest.raises(AirflowException) as caught:
        task()
    assert isinstance(caught.value, AirflowFailException) is not retry
    assert str(caught.value).strip().startswith("┌ task failed\n│ What   ")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_bug_keeps_its_stack_trace() -> None:
    @readable_failures
    def task() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        task()


def test_the_cause_is_told_once() -> None:
    assert describe_failure(_chained("no server", "refused by host")).why == "refused by host"
    assert describe_failure(_chained("no server: refused by host", "refused by host")).why == ""


def _chained(message: str, cause: str) -> StorageError:
    error = StorageError(message)
    error.__cause__ = OSError(cause)
    return error


def test_a_refused_password_stays_refused() -> None:
    error = StorageError("refused")
    error.__cause__ = OperationalError("SELECT 1", None, pymysql.OperationalError(1045, "Access denied"))
    assert not describe_failure(error).retry
    error.__cause__ = OperationalError("SELECT 1", None, pymysql.OperationalError(2003, "Can't connect"))
    assert describe_failure(error).retry


@pytest.mark.parametrize(
    ("kind", "retry"),
    [
        ("DataError", False),
        ("DeviceError", False),
        ("StorageError", True),
        ("WriterDiedError", True),
        ("OSError", True),
    ],
)
def test_the_drivers_words_reach_the_card(kind: str, retry: bool) -> None:
    report = {"error": kind, "what": "No column 'y'.", "why": "columns: a, b", "next": "Correct data.label."}
    failure = driver_failure(report, "the log")
    assert failure == Failure("No column 'y'.", "columns: a, b", "Correct data.label.", "the log", retry)


@pytest.mark.parametrize("kind", ERRORS)
def test_a_card_says_the_same_whether_airflow_or_the_driver_met_the_error(kind: type[TuningError]) -> None:
    here, there = describe_failure(kind("it broke")), driver_failure(report_of(kind("it broke")), "")
    assert (here.what, here.next or FALLBACK, here.retry) == (there.what, there.next, there.retry)
    assert here.next or kind is TuningError


def test_a_driver_that_said_nothing_may_be_tried_again() -> None:
    failure = driver_failure(None, "the log")
    assert failure.retry
    assert "before it could say why" in failure.what
    assert not isinstance(as_airflow_error(failure, "tune failed"), AirflowFailException)
