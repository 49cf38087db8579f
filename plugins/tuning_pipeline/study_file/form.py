"""Which fields the trigger form of a study has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna_spark.errors import SpecError
from optuna_spark.spec.decode import unknown_key
from tuning_pipeline.study_file.fields.cluster import SPARK, WORKERS
from tuning_pipeline.study_file.fields.databricks import NEW_CLUSTER
from tuning_pipeline.study_file.fields.ending import ENDING
from tuning_pipeline.study_file.fields.field import FormField, Reach
from tuning_pipeline.study_file.fields.search import SEARCH
from tuning_pipeline.study_file.fields.table import TABLE
from tuning_pipeline.study_file.fields.xgboost import XGBOOST
from tuning_pipeline.study_file.target_sections import section_of

if TYPE_CHECKING:
    from tuning_pipeline.study_file.keys import StudyKeys

COMMON = (*SEARCH, *WORKERS, *ENDING)
# In the order of the form.
ALL_FIELDS = (*COMMON, *SPARK, *TABLE, *XGBOOST, *NEW_CLUSTER)


def possible_fields(keys: StudyKeys) -> tuple[FormField, ...]:
    """The fields that mean something for a study."""
    meaning = {
        *COMMON,
        *section_of(keys).form_fields(keys),
        *(TABLE if keys.data is not None else ()),
        *(XGBOOST if keys.objective == "xgboost" else ()),
    }
    return tuple(item for item in ALL_FIELDS if item in meaning)


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
    possible, known = [f.param for f in possible_fields(keys)], [f.param for f in ALL_FIELDS]
    for name in listed:
        if name not in known:
            raise SpecError(unknown_key(name, possible, "field"), "form.fields")
        if name not in possible:
            raise SpecError(f"{name} means nothing for this study; remove it", "form.fields")
    if len(set(listed)) < len(listed):
        twice = next(name for name in listed if listed.count(name) > 1)
        raise SpecError(f"{twice} is listed twice; remove one", "form.fields")
