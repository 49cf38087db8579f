"""Checks of parameters by name, before any trial runs: their names, and the values that are tried first."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from optuna_spark.errors import SpecError
from optuna_spark.spec.conditions import check_met
from optuna_spark.spec.decode import unknown_key
from optuna_spark.spec.sections import ParamSpec


def check_parameters(space: Mapping[str, ParamSpec], sets: Sequence[Mapping[str, Any]]) -> None:
    """Refuse parameter names that the database takes for one, and sets to try first that do not fit the search space.

    Args:
        space: The search space that the study really has; empty where only running the objective defines it.
        sets: The study's `enqueue`.

    Raises:
        SpecError: The first thing wrong.
    """
    check_distinct(space, "search_space")
    if not space:
        check_distinct((name for params in sets for name in params), "enqueue")
        return
    for index, params in enumerate(sets):
        for name, value in params.items():
            if name not in space:
                raise SpecError(unknown_key(name, list(space), "parameter"), f"enqueue[{index}]")
            try:
                space[name].check(value)
            except SpecError as error:
                raise SpecError(str(error), f"enqueue[{index}].{name}") from None
        try:
            check_met(space, params)
        except SpecError as error:
            raise SpecError(str(error), f"enqueue[{index}]") from None


def check_distinct(names: Iterable[str], key: str = "") -> None:
    """Refuse names that differ in case or accents only: MySQL's usual collations take them for one.

    Raises:
        SpecError: Names the first two.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(same_in_mysql(name), name)
        if other != name:
            raise SpecError(
                f"parameters {other!r} and {name!r} differ only in case or accents, which MySQL does not tell apart:"
                " rename one of them",
                key,
            )


def check_suggested(names: Iterable[str]) -> None:
    """The same for the names that a trial suggests: its objective gets the error, and the run goes on.

    Raises:
        ValueError: Names the first two.
    """
    try:
        check_distinct(names)
    except SpecError as error:
        raise ValueError(str(error)) from None


@lru_cache(maxsize=4096)  # asked for every parameter of every trial
def same_in_mysql(name: str) -> str:
    """A text that is equal for names that MySQL's usual collations take for one (utf8mb4_general_ci, _0900_ai_ci)."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return plain.casefold().rstrip(" ")
