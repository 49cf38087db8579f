"""YAML as people expect it: YAML 1.2 scalars, and a key given twice is an error.

PyYAML reads YAML 1.1, where `1e-3` is a text, `on`, `no` and `y` are booleans, `010` is eight and `1:30` is
ninety. A search space full of such surprises tunes something else than it says.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from optuna_spark.errors import SpecError


class StudyLoader(yaml.SafeLoader):
    """A SafeLoader with the scalars of YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                lines = f"lines {seen[key.value]} and {key.start_mark.line + 1}"
                raise SpecError(f"key {key.value!r} is given twice ({lines}); keep one of them")
            seen[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


# Without those of YAML 1.1, which the class would inherit.
StudyLoader.yaml_implicit_resolvers = {}
_MERGE = "tag:yaml.org,2002:merge"


def _integer(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 16) if text.startswith("0x") else int(text, 10)


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _resolve(kind: str, pattern: str, first: Iterable[str]) -> None:
    """Texts that match `pattern` and start with one of `first` (empty: the empty text) are of this kind."""
    StudyLoader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})$"), list(first))


_resolve("null", "~|null|Null|NULL|", ("~", "n", "N", ""))
_resolve("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolve("int", "[-+]?[0-9]+|0x[0-9a-fA-F]+", "-+0123456789")
_resolve("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+0123456789.")
_resolve("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.")
_resolve("merge", "<<", "<")
StudyLoader.add_constructor("tag:yaml.org,2002:int", _integer)
StudyLoader.add_constructor("tag:yaml.org,2002:float", _number)


def read_yaml(path: Path) -> Any:
    """The document in a YAML file.

    Raises:
        SpecError: The file cannot be read, or is not one YAML document.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=StudyLoader)  # noqa: S506  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        raise SpecError(_syntax_error(error)) from None
    except OSError as error:
        raise SpecError(f"cannot be read as YAML: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"cannot be read as YAML: byte {error.start + 1} is no UTF-8") from None
    except yaml.reader.ReaderError as error:
        raise SpecError(f"cannot be read as YAML: character {error.position + 1} is not allowed") from None
    except (yaml.YAMLError, ValueError) as error:
        raise SpecError(f"cannot be read as YAML ({type(error).__name__})") from None


def _syntax_error(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    what = " ".join(part for part in (error.context, error.problem) if part)
    # What stands in the file is in quotes: the place is enough to find it.
    return f"is not valid YAML: {place}{re.sub(_QUOTED, '...', what)}"


_QUOTED = re.compile(r"'(?!<)[^']{2,}'")
