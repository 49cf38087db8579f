"""Why trials failed, grouped by what was raised and where in the user's own code."""

from __future__ import annotations

import copy
import threading
from pathlib import Path

import pytest

from optuna_spark.errors import error_text
from optuna_spark.results.failure_reasons import failure_reasons

HERE = "test_failure_reasons.py"


def text_of(*values: object) -> list[tuple[int, str]]:
    """The texts of errors as a worker writes them, the newest first."""
    found = []
    for number, value in enumerate(values):
        try:
            an_objective(value)
        except Exception as error:  # noqa: BLE001  # as the worker does
            found.append((number, error_text(error)))
    return found[::-1]


def an_objective(value: object) -> None:
    if isinstance(value, int):
        raise ValueError(f"depth {value} is too deep")
    copy.deepcopy([[[[[[[[value]]]]]]]])


def line_of(what: str) -> int:
    source = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(source, 1) if line.strip().startswith(what))


def test_errors_of_one_kind_at_one_place_are_one_reason_with_their_count() -> None:
    reason, other = failure_reasons(text_of(1, threading.Lock(), 2, 3))
    assert (reason.count, reason.error, reason.trial) == (3, "ValueError: depth 3 is too deep", 3)
    assert reason.place == f"{HERE}, line {line_of('raise ValueError')}"
    assert str(reason) == (f"3 trials failed: ValueError: depth 3 is too deep ({reason.place}); the newest is trial 3")
    assert (other.count, other.trial) == (1, 1)


def test_the_place_in_the_users_code_is_kept_however_deep_a_library_fails() -> None:
    [(_, text)] = text_of(threading.Lock())
    [reason] = failure_reasons([(0, text)])
    assert reason.error.startswith("TypeError: cannot pickle")
    assert reason.place == f"{HERE}, line {line_of('copy.deepcopy')}"


@pytest.mark.parametrize(
    ("text", "error", "place"),
    [
        ("the worker that ran this trial died", "the worker that ran this trial died", ""),
        (
            "ValueError in /tmp/spark/own.py, line 3 (the text is not shown, because this run's form gave data.path)",
            "ValueError",
            "own.py, line 3",
        ),
        (
            'Traceback (most recent call last):\n  File "/x/site-packages/xgboost/core.py", line 1, in f\n'
            "    call()\nxgboost.core.XGBoostError: bad\nStack trace:\n  [bt] (0) libxgboost.so\n",
            "xgboost.core.XGBoostError: bad",
            "",
        ),
        (
            'Traceback (most recent call last):\n  File "/tmp/own.py", line 3, in f\n    x = 1 / 0\n        ~~^~~\n'
            "ZeroDivisionError: division by zero",
            "ZeroDivisionError: division by zero",
            "own.py, line 3",
        ),
        ("", "no reason was given", ""),
    ],
)
def test_every_text_that_a_trial_may_carry_gives_a_reason(text: str, error: str, place: str) -> None:
    [reason] = failure_reasons([(4, text)])
    assert (reason.error, reason.place, reason.trial) == (error, place, 4)


def test_texts_without_a_place_are_one_reason_if_only_numbers_differ() -> None:
    texts = [(number, f"the objective must return 1 value(s), got {number}") for number in (5, 4, 3)]
    assert [reason.count for reason in failure_reasons(texts)] == [3]


def test_a_long_text_is_cut() -> None:
    [reason] = failure_reasons([(0, "ValueError: " + "x" * 10_000)])
    assert len(reason.error) < 400
