"""The reference page of a study file's keys, as Markdown."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

from optuna_spark.spec.decode import to_dict
from optuna_spark.spec.key import REQUIRED, DeclaredKey, Group, Key, Reach, section_type, shown_number
from tuning_pipeline.study_file.declared import study_parts
from tuning_pipeline.study_file.form_field import form_field

HEAD = """\
# Study file

Every key of a study file, with its type, its default and who may set it. This page is written by `make reference` from
the declarations that the file, the trigger form and the checks use. A file with all of them:
[wine_quality.yaml](../dags/studies/wine_quality.yaml).

*Set by*: **author** keys stand in the study file alone. **form** keys have a field in the trigger form of every study
to which they mean something, unless the study file lists others under `form.fields`. **listed** keys have a field only
where `form.fields` lists it, and the cell says what whoever fills it in then decides.
"""


def reference_page() -> str:
    """The text of docs/study_file.md."""
    parts = ("\n".join([*_heading(group), *map(_row, keys)]) for group, keys in study_parts().items())
    return f"{HEAD}\n" + "\n\n".join(parts) + "\n"


def _heading(group: Group) -> tuple[str, ...]:
    return (f"## {group.value}", "", "| Key | Type | Default | Set by | What it is |", "|---|---|---|---|---|")


def _row(declared: DeclaredKey) -> str:
    section = section_type(declared.hint)
    is_section = section is not None and not declared.key.parts
    cells = (
        f"`{declared.path}`",
        "section" if is_section else _type(declared.hint, declared.key),
        "" if is_section and declared.default is not None else _default(declared),
        "" if is_section else _set_by(declared),
        declared.key.help,
    )
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "\\<") for cell in cells) + " |"


def _type(hint: Any, key: Key) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [_type(kind, key) for kind in get_args(hint) if kind is not type(None)]
        return " or ".join(kinds + (["null"] if type(None) in get_args(hint) else []))
    if get_origin(hint) is Literal:
        values = (key.field.schema if key.field is not None else {}).get("enum") or get_args(hint)
        return ", ".join(f"`{value}`" for value in values)
    if get_origin(hint) is tuple:
        return "list"
    if get_origin(hint) is dict or section_type(hint) is not None:
        return "mapping"
    names: dict[Any, str] = {bool: "true or false", int: "whole number", float: "number", str: "text"}
    return names[hint] + (_limits(key) if hint in (int, float) else "")


def _limits(key: Key) -> str:
    low = f"above {shown_number(key.above)}" if key.above is not None else ""
    low = f"{shown_number(key.minimum)}" if key.minimum is not None else low
    high = f"below {shown_number(key.below)}" if key.below is not None else ""
    high = f"{shown_number(key.maximum)}" if key.maximum is not None else high
    return f", {low} to {high}" if low and high else f", at most {high}" if high else ""


def _default(declared: DeclaredKey) -> str:
    if declared.default is REQUIRED:
        return "required"
    value = to_dict(declared.default)
    if value is None or isinstance(value, bool):
        return f"`{str(value).lower().replace('none', 'null')}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    if isinstance(value, dict) and "name" in value:
        return f"`{value['name']}`"
    return f"`{value}`" if value not in ("", [], {}) else "empty"


def _set_by(declared: DeclaredKey) -> str:
    item = form_field(declared)
    if item is None:
        return "author"
    if item.reach is Reach.NOTHING:
        return f"form: `{item.param}`"
    return f"listed: `{item.param}` decides {item.reach.value}"
