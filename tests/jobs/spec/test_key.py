"""A key is declared once: its limits are kept, and whoever asks finds it where it stands in the document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from optuna_spark.errors import SpecError
from optuna_spark.spec.key import REQUIRED, Key, check_limits, declared_keys, key
from optuna_spark.spec.tuning import TuningSpec


@dataclass(frozen=True)
class Inner:
    size: str = key("1g", "How large.", pattern="[0-9]+g", must="be a size such as 2g")
    plain: int = 3


@dataclass(frozen=True)
class Parts:
    name: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outer:
    path: str = key(REQUIRED, "Where.")
    share: float | None = key(None, "How much.", above=0, below=1)
    count: int = key(2, "How many.", minimum=1, maximum=10**6)
    seconds: float = key(1.0, "How long.", above=0, maximum=5)
    inner: Inner = key(Inner(), "What is inside.")
    parts: Parts = key(Parts("a"), "Parts.", parts={"name": Key("Which.")})
    names: tuple[str, ...] = key((), "Names.")
    options: dict[str, str] = key(None, "Options.", make=dict)


def test_keys_are_found_below_their_sections_with_their_defaults() -> None:
    found = {declared.path: declared.default for declared in declared_keys(Outer)}
    assert found == {
        "path": REQUIRED,
        "share": None,
        "count": 2,
        "seconds": 1.0,
        "inner": Inner(),
        "inner.size": "1g",
        "parts": Parts("a"),
        "parts.name": REQUIRED,
        "names": (),
        "options": {},
    }


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"share": 1}, r"share must be between 0 and 1 \(exclusive\), got 1"),
        ({"share": 0}, r"share must be between 0 and 1 \(exclusive\), got 0"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"count": 1_000_001}, "count must be at most 1000000, got 1000001"),
        ({"count": 10**30}, r"count must be at most 1000000, got 1e\+30"),
        ({"seconds": 0}, "seconds must be above 0, got 0"),
        ({"seconds": 5.5}, "seconds must be at most 5, got 5.5"),
    ],
)
def test_a_number_beyond_its_limits_is_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=f"^{sentence}$"):
        check_limits(Outer("p", **values))


def test_a_text_that_does_not_match_is_a_sentence() -> None:
    with pytest.raises(SpecError, match=r"^size must be a size such as 2g, got '2g '$"):
        check_limits(Inner("2g "))


def test_the_ends_themselves_are_allowed() -> None:
    check_limits(Outer("p", share=None, count=1, seconds=5))
    check_limits(Outer("p", share=0.5, count=10**6))


@pytest.mark.parametrize("changes", [{"trials": 0}, {"timeout_s": 0}, {"tasks": 10**9}, {"seed": -1}])
def test_a_run_made_by_hand_keeps_the_limits_too(changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=f"^{next(iter(changes))} must be "):
        TuningSpec("study", **changes)
