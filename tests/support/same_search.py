"""Compares a search with Optuna's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest


def assert_same(ours: Iterable[Mapping[str, Any]], optunas: Iterable[Mapping[str, Any]]) -> None:
    """The same parameters or values, trial by trial, but for the last digits: our TPE computes them another way."""
    for number, (mine, theirs) in enumerate(zip(ours, optunas, strict=True)):
        assert mine.keys() == theirs.keys(), f"trial {number}"
        for name, value in theirs.items():
            same = pytest.approx(value, rel=1e-8, abs=1e-8) if isinstance(value, float) else value
            assert mine[name] == same, f"trial {number}, {name}"
