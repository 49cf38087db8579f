"""Which fields the trigger form of a study has."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from optuna_spark.errors import SpecError
from optuna_spark.objectives import registry as objectives
from optuna_spark.objectives.registry import sections
from optuna_spark.spec.decode import unknown_key
from optuna_spark.spec.form_fields import HEADINGS
from optuna_spark.spec.key import Reach
from tuning_pipeline.study_file.declared import study_keys
from tuning_pipeline.study_file.form_field import FormField, form_field
from tuning_pipeline.targets.registry import KINDS, kind_of

if TYPE_CHECKING:
    from tuning_pipeline.study_file.keys.study_keys import StudyKeys


@cache
def all_fields() -> tuple[FormField, ...]:
    """Every field that a form may have, in the order of the form."""
    found = [item for item in map(form_field, study_keys()) if item is not None]
    return tuple(sorted(found, key=_place))


def _place(item: FormField) -> int:
    heading = item.field.heading
    return HEADINGS.index(heading) if heading in HEADINGS else len(HEADINGS)


def possible_fields(keys: StudyKeys) -> tuple[FormField, ...]:
    """The fields that mean something for a study."""
    without = {
        *(section for kind in KINDS.values() for section in kind.form_sections),
        *sections(),
        "data",
        "validation",
    }
    of_study = {
        *kind_of(keys).offered_sections(keys),
        *({keys.objective} & set(sections())),
        *(["data"] if keys.data is not None else []),
        *(["validation"] if objectives.kind_of(keys.objective).needs_data else []),
    }
    return tuple(item for item in all_fields() if not _below(item, without) or _below(item, of_study))


def _below(item: FormField, names: set[str]) -> bool:
    return any(item.key.startswith(f"{name}.") for name in names)


def offered_fields(keys: StudyKeys) -> tuple[FormField, ...]:
    """The fields of a study's form: those it lists, else those that reach nothing."""
    possible, listed = possible_fields(keys), keys.form.fields
    if listed is None:
        return tuple(item for item in possible if item.reach is Reach.NOTHING)
    return tuple(item for item in possible if item.param in listed)


def check_form(keys: StudyKeys) -> None:
    """Refuse a list of fields that a form cannot have.

    Raises:
        SpecError: A name nobody knows, one that means nothing for this study, or one given twice.
    """
    listed = keys.form.fields or ()
    possible, known = [f.param for f in possible_fields(keys)], [f.param for f in all_fields()]
    for name in listed:
        if name not in known:
            raise SpecError(unknown_key(name, possible, "field"), "form.fields")
        if name not in possible:
            raise SpecError(f"{name} means nothing for this study; remove it", "form.fields")
    if "data_path" in listed and keys.data is not None and not isinstance(keys.data.path, str):
        raise SpecError("data_path is one text, and data.path of this study is a list; remove data_path", "form.fields")
    if len(set(listed)) < len(listed):
        twice = next(name for name in listed if listed.count(name) > 1)
        raise SpecError(f"{twice} is listed twice; remove one", "form.fields")
