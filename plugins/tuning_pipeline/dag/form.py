"""The trigger form: the fields a study offers as typed Params, and what a run makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param

from optuna_spark.errors import SpecError
from optuna_spark.objectives.registry import BUILT_IN
from optuna_spark.spec.decode import describe, unknown_key
from optuna_spark.spec.key import Reach
from tuning_pipeline.dag.form_values import check_value
from tuning_pipeline.study_file.form import offered_fields, possible_fields
from tuning_pipeline.study_file.form_field import FormField
from tuning_pipeline.study_file.study_file import FormError, StudyFile

MODES = ("resume", "reset", "create")
MODE_HELP = (
    "resume: go on with the study, or start it. reset: start again; the study as it is now is kept under another name."
    " create: start it, and fail if it exists."
)


def form_params(study: StudyFile) -> dict[str, Param]:
    """The DAG's Params: `mode`, then a field for every tunable key with the study file's value as default.

    Raises:
        StudyFileError: A default does not fit its field.
    """
    params = {"mode": Param("resume", type="string", enum=list(MODES), title="Mode", description=MODE_HELP)}
    for item, default in _own_values(study):
        section: dict[str, Any] = {"section": item.field.heading} if item.field.heading else {}
        params[item.param] = Param(default, title=_title(item.param), description=item.help, **item.schema, **section)
    return params


def study_of_run(study: StudyFile, params: Mapping[str, Any], conf: Mapping[str, Any] | None) -> StudyFile:
    """The study with the values of this run's form.

    Every task asks this anew, so that nothing a run brings is used unseen, whatever started it.

    Args:
        study: As its file says.
        params: The run's Params.
        conf: What the run was triggered with; Airflow takes keys it does not know without a word.

    Raises:
        FormError: A key that nobody knows or this form does not offer, or a value that breaks a rule.
    """
    fields = _own_values(study)
    _check_offered(study, [item.param for item, _ in fields], params, conf or {})
    mode_of(params)
    changes = {item: params[item.param] for item, own in fields if params.get(item.param, own) != own}
    for item, value in changes.items():
        try:
            check_value(item, value, study)
        except SpecError as error:
            raise FormError(f"{item.param}: {error}") from None
    changed = {item.key: value for item, value in changes.items()}
    if "data.path" in changed:
        # Whoever filled in the form may not be somebody who may read that file: no error tells what stands in it.
        changed["data.names_in_errors"] = False
    return study.changed(changed)


def _check_offered(study: StudyFile, offered: list[str], params: Mapping[str, Any], conf: Mapping[str, Any]) -> None:
    withheld = {item.param: item for item in possible_fields(study.settings) if item.param not in offered}
    for name in (*conf, *params):
        if name in withheld:
            raise FormError(_not_offered(withheld[name]))
    for name in conf:
        if name not in offered and name != "mode":
            raise FormError(unknown_key(name, ["mode", *offered]))


def _not_offered(item: FormField) -> str:
    why = "" if item.reach is Reach.NOTHING else f": it decides {item.reach.value}"
    return f"this study's form does not offer {item.param}{why}; its author can list it under form.fields"


def _own_values(study: StudyFile) -> list[tuple[FormField, Any]]:
    """The fields of the form, and what each starts with."""
    defaults = study.values()
    return [(item, _value_at(study.document, defaults, item.key)) for item in offered_fields(study.settings)]


def mode_of(params: Mapping[str, Any]) -> str:
    """What to do with a study that exists."""
    mode = params.get("mode", "resume")
    if mode not in MODES:
        raise FormError(f"mode must be one of {', '.join(MODES)}, got {describe(mode)}")
    return str(mode)


def _title(name: str) -> str:
    """A Param's name as a person writes it: `timeout_s` is Timeout (seconds)."""
    known = _WORDS | {name: kind.title for name, kind in BUILT_IN.items() if kind.title}
    words = [known.get(word, word) for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


_WORDS = {
    "s": "(seconds)",
    "cpus": "CPUs",
    "gpus": "GPUs",
    "spark": "Spark",
    "conf": "properties",
    "args": "arguments",
    "sha256": "SHA-256",
}


def _value_at(document: Mapping[str, Any], defaults: Mapping[str, Any], key: str) -> Any:
    """The value under a dotted key, as the author wrote it where they did."""
    given: Any = document
    default: Any = defaults
    for part in key.split("."):
        given = given.get(part) if isinstance(given, Mapping) else None
        default = default[part]
    return default if given is None else given
