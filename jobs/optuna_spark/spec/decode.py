"""Plain dicts to frozen dataclasses and back, strictly: unknown keys and wrong types are errors.

Only the standard library is used, because the spec is read wherever a trial runs.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from optuna_spark.errors import SpecError

T = TypeVar("T")
MAX_WHOLE = 2**63 - 1


def from_dict(cls: type[T], data: object, key: str = "") -> T:
    """Build the dataclass `cls` from a mapping.

    Args:
        cls: A dataclass whose annotations are scalars, Literal, Optional, tuple, dict or dataclasses.
        data: The mapping, as read from JSON or YAML.
        key: Dotted path of `data` in its document, for error messages.

    Raises:
        SpecError: An unknown or missing key, or a value of another type.
    """
    if not isinstance(data, Mapping):
        raise SpecError(f"must be a mapping of keys to values, got {describe(data)}", key)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]  # cls is a dataclass
    for name in data:
        if name not in fields:
            raise SpecError(unknown_key(str(name), list(fields)), key)
    hints = get_type_hints(cls)
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], _join(key, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SpecError("is required but missing", _join(key, name))
    try:
        return cls(**values)
    except SpecError as error:
        raise SpecError(str(error), key) if key else error from None


def to_dict(value: Any) -> Any:
    """The JSON form of a dataclass: what `from_dict` reads back to an equal value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: to_dict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_dict(v) for v in value]
    return value


def unknown_key(name: str, valid: list[str], kind: str = "key") -> str:
    """The sentence for a key nobody reads, with the nearest valid one if there is one near."""
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {kind} {name!r}{hint}; valid {kind}s: {', '.join(sorted(valid))}"


def describe(value: object) -> str:
    """A value as an error message shows it: its kind and what it is."""
    if value is None:
        return "nothing"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _convert(hint: Any, value: Any, key: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(args, value, key)
    if origin is Literal:
        if value not in args or isinstance(value, bool):
            raise SpecError(f"must be one of {', '.join(map(str, args))}, got {describe(value)}", key)
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise SpecError(f"must be a list, got {describe(value)}", key)
        return tuple(_convert(args[0], v, f"{key}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise SpecError(f"must be a mapping of keys to values, got {describe(value)}", key)
        return {str(k): _convert(args[1], v, _join(key, str(k))) for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, key)  # type: ignore[arg-type]
    return _convert_scalar(hint, value, key)


def _convert_union(args: tuple[Any, ...], value: Any, key: str) -> Any:
    if value is None and type(None) in args:
        return None
    kinds = [a for a in args if a is not type(None)]
    if len(kinds) == 1:
        return _convert(kinds[0], value, key)
    for kind in kinds:
        if isinstance(value, Mapping) and dataclasses.is_dataclass(kind):
            return _convert(kind, value, key)  # whose error says more
        try:
            return _convert(kind, value, key)
        except SpecError:
            continue
    names = " or ".join(_kind_words(kind) for kind in kinds)
    raise SpecError(f"must be {names}, got {describe(value)}", key)


def _kind_words(kind: Any) -> str:
    if dataclasses.is_dataclass(kind):
        return f"a mapping with {', '.join(field.name for field in dataclasses.fields(kind))}"
    return str(getattr(kind, "__name__", kind))


def _convert_scalar(hint: type, value: Any, key: str) -> Any:
    if isinstance(value, int) and abs(value) > MAX_WHOLE:
        raise SpecError("must be a number of at most 64 bits, got a larger one", key)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SpecError(f"must be {_NAMES.get(hint, hint.__name__)}, got {describe(value)}", key)
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"must be a finite number, got {value}", key)
    return value


_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
