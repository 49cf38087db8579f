"""A study file with every key in it, each with its help: made from the values of a study file and the declarations."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from optuna_spark.spec.decode import to_dict
from optuna_spark.spec.key import REQUIRED, DeclaredKey, Group, section_type
from tuning_pipeline.study_file.declared import study_parts
from tuning_pipeline.study_file.keys.study_keys import StudyKeys

WIDTH = 120
HEAD = """\
# A study file is one DAG: this one is `tune_{name}`. Every key there is stands here with its help; most have
# a default and can be left out. What stands here is what the trigger form starts with. docs/study_file.md lists the
# keys with their limits. `make reference` writes this file anew, with the values that it has.
"""


def annotated(name: str, document: Mapping[str, Any]) -> str:
    """The text of the study file.

    Args:
        name: Of the study file, without its ending.
        document: Its content, with short forms spelled out.
    """
    lines, defaults = [HEAD.format(name=name).rstrip()], to_dict(StudyKeys())
    for group, keys in study_parts().items():
        lines += ["", _rule(group)]
        below_null = ""
        for declared in keys:
            value = _value(document, defaults, declared)
            is_below_null = bool(below_null) and declared.path.startswith(below_null)
            if not is_below_null:
                below_null = f"{declared.path}." if value is None else ""
            lines += [f"#{line}" if is_below_null else line for line in _lines(declared, value, is_below_null)]
    return "\n".join(lines) + "\n"


def _rule(group: Group) -> str:
    title = f"# --- {group.value} "
    return title + "-" * (WIDTH - 1 - len(title))


def _value(document: Mapping[str, Any], defaults: Mapping[str, Any], declared: DeclaredKey) -> Any:
    """What the study file says, else the default of the section that the key is in, else its own."""
    if (given := _at(document, declared.path)) is not REQUIRED:
        return given
    default = _at(defaults, declared.path)
    if default is REQUIRED:
        default = None if declared.default is REQUIRED else to_dict(declared.default)
    return _plain(default)


def _at(values: Mapping[str, Any], path: str) -> Any:
    """The value under a dotted key; REQUIRED where there is none."""
    value: Any = values
    for name in path.split("."):
        value = value.get(name, REQUIRED) if isinstance(value, Mapping) else REQUIRED
    return value


def _plain(default: Any) -> Any:
    """A default as a person writes it: 10 for 10.0."""
    return int(default) if isinstance(default, float) and default.is_integer() else default


def _lines(declared: DeclaredKey, value: Any, is_below_null: bool) -> Iterator[str]:
    depth = declared.path.count(".")
    indent, name = "  " * depth, declared.path.rpartition(".")[2]
    if value is not None and section_type(declared.hint) is not None:
        yield from _with_help(f"{indent}{name}:", declared.key.help, indent)
    elif isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values()):
        yield from _with_help(f"{indent}{name}:", declared.key.help, indent)
        yield from (f"{indent}  {_flow(inner)}: {_flow(value[inner])}" for inner in value)
    else:
        shown = "" if is_below_null and declared.default is REQUIRED else f" {_flow(value)}"
        yield from _with_help(f"{indent}{name}:{shown}", declared.key.help, indent)


def _with_help(line: str, text: str, indent: str) -> Iterator[str]:
    beside = f"{line}  # {text}"
    if len(beside) < WIDTH:
        yield beside
        return
    yield from textwrap.wrap(text, WIDTH - 1, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    yield line


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
