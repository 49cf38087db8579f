"""A final model as its objective hands it over, in memory."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

# Rows of the example that goes with a model.
EXAMPLE_ROWS = 5


@dataclass(frozen=True)
class TrainedModel:
    """A final model.

    Attributes:
        file: Name of the file that holds it: its ending says what reads it.
        content: That file.
        features: Name and type of each column that the model takes, in their order; empty where only the objective
            knows.
        rows, test_rows: How many rows it was trained and scored on.
        test_values: Its values on the test rows, one for each of directions; None without a score.
        rounds: Rounds it was trained for; None where the objective knows none.
        label: The column that it predicts.
        classes: Of a classifier: the label's values, in the order of the model's own numbers.
        example: A few training rows, by column.
        importances: How much each feature weighs, the greatest first; empty where nobody knows.
        test_plot: What the report draws of the test rows, as plain data.
        packages: The distributions that loading it needs.
        modules: Modules of the user's own that loading it needs.
        more: What else its card says.
    """

    file: str
    content: bytes
    features: tuple[tuple[str, str], ...] = ()
    rows: int = 0
    test_rows: int = 0
    test_values: tuple[float, ...] | None = None
    rounds: int | None = None
    label: str | None = None
    classes: tuple[Any, ...] = ()
    example: Mapping[str, list[Any]] = field(default_factory=dict)
    importances: Mapping[str, float] = field(default_factory=dict)
    test_plot: Mapping[str, Any] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


def pinned(names: Iterable[str]) -> dict[str, str]:
    """The version of each of these distributions that is installed here."""
    found = {}
    for name in sorted(set(names), key=str.lower):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
