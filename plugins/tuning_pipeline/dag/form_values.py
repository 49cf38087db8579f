"""The rules for what a run's form may say, beyond those that a study file keeps too.

A study file may name any sampler, pruner or format there is, and any text as a choice. A run may name what stands in
our closed lists or in its study file, and otherwise only plain numbers: whatever a text might mean to a library, or to
an objective of the author's own, it then means by the author's word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from optuna_spark.errors import SpecError
from optuna_spark.objectives.registry import kind_of
from optuna_spark.spec.decode import describe
from optuna_spark.spec.key import MAX_NUMBER
from tuning_pipeline.study_file.form import all_fields
from tuning_pipeline.study_file.form_field import FormField
from tuning_pipeline.study_file.study_file import StudyFile

MAX_VALUES = 50_000
MAX_DEPTH = 6
# In arguments of samplers and pruners a number is mostly a count of things that are then made.
MAX_ARGUMENT = 1_000_000

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
# A text that is a number, or lists of them, such as XGBoost's constraints.
_NUMBERS = re.compile(r"[-+0-9.eE,()\[\] ]{1,1000}")


def check_value(item: FormField, value: Any, study: StudyFile) -> None:
    """Refuse a value that a run's form may not give.

    Args:
        item: The field.
        value: Its value, other than the study file's own.
        study: The study file.

    Raises:
        SpecError: The rule, the value, and what would allow it.
    """
    _check_size(value)
    _check_limits(item.schema, value)
    if item.field.closed:
        _check_closed(item, value)
    if item.field.words is not None:
        _check_plain(item, value, study)
    if item.key == "data.path":
        _check_table(str(value), study.document)


def _check_size(value: Any) -> None:
    for count, (depth, leaf) in enumerate(_leaves(value)):
        if count >= MAX_VALUES or depth > MAX_DEPTH:
            raise SpecError(f"must hold at most {MAX_VALUES} values, nested at most {MAX_DEPTH} deep")
        if isinstance(leaf, int | float) and not abs(leaf) <= MAX_NUMBER:
            size = "more" if isinstance(leaf, int) or math.isfinite(leaf) else str(leaf)
            raise SpecError(f"numbers must be finite and between -{MAX_NUMBER:.0e} and {MAX_NUMBER:.0e}, got {size}")


def _check_limits(schema: Mapping[str, Any], value: Any) -> None:
    """What the form itself refuses, for a run that did not come through it."""
    limit, pattern = schema.get("maximum"), schema.get("pattern")
    if limit is not None and isinstance(value, int | float) and value > limit:
        raise SpecError(f"must be at most {limit:g}, got {value:g}")
    if pattern is not None and isinstance(value, str) and not re.fullmatch(pattern, value):
        raise SpecError(f"must match {pattern}, got {describe(value)}")


def _check_closed(item: FormField, value: Any) -> None:
    texts = "|".join(re.escape(text) for text in item.field.closed)
    allowed = re.compile(f"(?:{texts})(?:{item.field.closed_suffix})?")
    for name in value if isinstance(value, list | tuple) else [value]:
        if name is not None and not (isinstance(name, str) and allowed.fullmatch(name)):
            raise SpecError(f"a run may name one of {', '.join(item.field.closed)}, got {describe(name)}; {_INSTEAD}")


def _check_plain(item: FormField, value: Any, study: StudyFile) -> None:
    """The values that a form gives by name: numbers, and texts that mean nothing outside the search."""
    own = _texts_of(study.document)
    words = {*own, *(item.field.words or ())}
    if item.field.holds_parameters:
        words.update(kind_of(study.settings.objective).words)
    classes = {f"{leaf}" for name, leaf in _named_leaves(_value_of(study.document, item.key)) if name == "name"}
    for name, leaf in _named_leaves(value):
        # What such a name stands for is imported: even a text that the study file has elsewhere must not become one.
        if item.field.are_arguments and name == "name" and ":" in f"{leaf}" and leaf not in classes:
            raise SpecError(f"{name}: a run may name no class of another package, got {describe(leaf)}; {_INSTEAD}")
        if name not in own and not _NAME.fullmatch(name):
            raise SpecError(
                f"names are a letter or '_', then letters, digits, '_' and '-', at most 100, got {describe(name)}"
            )
        if isinstance(leaf, str) and leaf not in words and not _NUMBERS.fullmatch(leaf):
            raise SpecError(
                f"{name}: a run may give numbers, or texts the study file has, got {describe(leaf)}; {_INSTEAD}"
            )
        if item.field.are_arguments and name != "seed" and isinstance(leaf, int) and abs(leaf) > MAX_ARGUMENT:
            raise SpecError(f"{name}: a whole number must be at most {MAX_ARGUMENT}, got {describe(leaf)}; {_INSTEAD}")


def _check_table(path: str, document: Mapping[str, Any]) -> None:
    """Of the catalog's names only plain ones: Spark takes csv.`/a/file` and a class in that place for tables too."""
    if (document.get("data") or {}).get("format") == "table" and not re.fullmatch(r"\w+(\.\w+){0,2}", path):
        raise SpecError(f"a table is named as table, schema.table or catalog.schema.table, got {describe(path)}")


_INSTEAD = "other ones are for the study file"


def _texts_of(document: Mapping[str, Any]) -> set[str]:
    """Every text and name under the keys of the study file that hold values by name."""
    found: set[str] = set()
    for key in (item.key for item in all_fields() if item.field.words is not None):
        for name, leaf in _named_leaves(_value_of(document, key)):
            found |= {name} | ({leaf} if isinstance(leaf, str) else set())
    return found


def _value_of(document: Mapping[str, Any], key: str) -> Any:
    """What the study file has under a dotted key; None if nothing."""
    part: Any = document
    for name in key.split("."):
        part = part.get(name) if isinstance(part, Mapping) else None
    return part


def _leaves(value: Any, depth: int = 0) -> Iterator[tuple[int, Any]]:
    """Every value that holds no others, and every name, with its depth."""
    if depth > MAX_DEPTH or not isinstance(value, Mapping | list | tuple):
        yield depth, value
        return
    for name, part in value.items() if isinstance(value, Mapping) else enumerate(value):
        yield depth, name
        yield from _leaves(part, depth + 1)


def _named_leaves(value: Any, name: str = "_") -> Iterator[tuple[str, Any]]:
    """Every value that holds no others, with the name it stands under."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield str(key), None
            yield from _named_leaves(part, str(key))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _named_leaves(part, name)
    else:
        yield name, value
