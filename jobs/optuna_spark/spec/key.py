"""How a key of a study file is declared: once, as a field of the dataclass that holds it.

The declaration has the key's type and default, its help, its limits, and who may set it in a trigger form. The study
file, the form, the reference page and the annotated example all read it from here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, get_args, get_type_hints

from optuna_spark.errors import SpecError

# Of numbers without a limit of their own, and of those in objects and lists: Airflow stores none much longer.
MAX_NUMBER = 10**15
DAY_S = 86_400


class Group(Enum):
    """The parts of a study file, in the order in which a person reads it."""

    AIRFLOW = "Airflow"
    TUNED = "What is tuned"
    SEARCHED = "How it is searched"
    RUNS = "Where it runs"
    CHANGED = "What a run may change"
    EXPORTED = "What is exported"


class Reach(Enum):
    """What a value of a form's field can name; the text says what listing the field means."""

    NOTHING = "nothing outside the search"
    FILE = "any file or address that the cluster can read"
    OPTION = "any Spark property: code on the cluster and on Airflow's worker"
    SECRET = "whether workers get the database's password"  # noqa: S105  # a sentence
    MACHINES = "which machines are rented, and how many"


@dataclass(frozen=True)
class Field:
    """The field of the trigger form that sets a key.

    Attributes:
        reach: What a value can name. Only Reach.NOTHING is offered without being listed in the study file.
        heading: Heading under which the field is folded away; None keeps it in sight.
        name: Name of the Param; by default the dotted key with underscores.
        closed: The texts a run may give, where the study file may name more; empty where the schema decides.
        closed_suffix: Regular expression of what may follow one of these texts.
        words: Of a value that holds others by name: the texts in it that a run may give beside the study file's own.
        holds_parameters: The value holds values of the objective's parameters, so its words too.
        are_arguments: The value holds arguments of a class: its whole numbers are mostly counts of things then made.
        schema: JSON schema of the value, beyond or instead of what type and limits say.
    """

    reach: Reach
    heading: str | None = None
    name: str = ""
    closed: tuple[str, ...] = ()
    closed_suffix: str = ""
    words: tuple[str, ...] | None = None
    holds_parameters: bool = False
    are_arguments: bool = False
    schema: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Key:
    """What is declared of a key beside its type and default.

    Attributes:
        help: What a newcomer needs to know, units included.
        minimum, maximum: Least and greatest value of a number, both allowed.
        above, below: Limits of a number that are not allowed themselves.
        pattern: Regular expression that the whole of a text must match, and `must`: the same in words.
        field: Its field in the trigger form; None for what is the study file's author's alone.
        group: The part of the study file it stands in; of a key inside a section, its section's.
        parts: Of a section whose dataclass declares no keys: theirs, by name.
    """

    help: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    pattern: str | None = None
    must: str = ""
    field: Field | None = None
    group: Group | None = None
    parts: Mapping[str, Key] = dataclasses.field(default_factory=dict)


def key(default: Any, help: str, /, *, make: Callable[[], Any] | None = None, **declared: Any) -> Any:
    """A dataclass field that is a key.

    Args:
        default: Its default; `REQUIRED` for none.
        help: See Key.
        make: Makes the default where it is mutable; `default` is then not used.
        **declared: What else Key has.
    """
    metadata = {"key": Key(help, **declared)}
    if make is not None:
        return dataclasses.field(default_factory=make, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


REQUIRED = dataclasses.MISSING


def key_of(field: dataclasses.Field[Any]) -> Key | None:
    """The declaration of a dataclass field; None for one that is no key."""
    declared = field.metadata.get("key")
    return declared if isinstance(declared, Key) else None


@dataclass(frozen=True)
class DeclaredKey:
    """A key where it stands in the document.

    Attributes:
        path: Its dotted name, such as stop.max_retries.
        hint: Its type.
        default: Its default; REQUIRED for none.
        key: Its declaration.
    """

    path: str
    hint: Any
    default: Any
    key: Key


def declared_keys(cls: type, prefix: str = "", parts: Mapping[str, Key] | None = None) -> Iterator[DeclaredKey]:
    """Every key below a dataclass, sections before what they hold, in the order of their declaration.

    Args:
        cls: The dataclass.
        prefix: What stands before its keys' names in the document, such as "stop.".
        parts: Declarations of its fields that the key it stands under brings.
    """
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        declared = (parts or {}).get(field.name) or key_of(field)
        if declared is None:
            continue
        path, hint = prefix + field.name, hints[field.name]
        yield DeclaredKey(path, hint, default_of(field), declared)
        if (section := section_type(hint)) is not None:
            yield from declared_keys(section, f"{path}.", declared.parts)


def default_of(field: dataclasses.Field[Any]) -> Any:
    """What a field holds where nothing is given; REQUIRED where something must be."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def section_type(hint: Any) -> type | None:
    """The dataclass of a key that holds further keys; None for any other key, also one that may be a number instead."""
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not type(None)]
    is_section = len(kinds) == 1 and isinstance(kinds[0], type) and dataclasses.is_dataclass(kinds[0])
    return kinds[0] if is_section else None


def check_limits(section: Any) -> None:
    """Refuse numbers and texts of a section beyond what their declarations allow.

    Raises:
        SpecError: The rule and the value of the first one.
    """
    for field in dataclasses.fields(section):
        declared, value = key_of(field), getattr(section, field.name)
        if declared is None or value is None or isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            _check_number(field.name, value, declared)
        elif isinstance(value, str) and declared.pattern and not re.fullmatch(declared.pattern, value):
            raise SpecError(f"{field.name} must {declared.must}, got {value!r}")


def _check_number(name: str, value: float, declared: Key) -> None:
    minimum, maximum, above, below = declared.minimum, declared.maximum, declared.above, declared.below
    if above is not None and below is not None and not above < value < below:
        raise SpecError(f"{name} must be between {above:g} and {below:g} (exclusive), got {value:g}")
    if above is not None and value <= above:
        raise SpecError(f"{name} must be above {above:g}, got {value:g}")
    if minimum is not None and value < minimum:
        raise SpecError(f"{name} must be at least {shown_number(minimum)}, got {shown_number(value)}")
    if maximum is not None and value > maximum:
        raise SpecError(f"{name} must be at most {shown_number(maximum)}, got {shown_number(value)}")


def shown_number(number: float) -> str:
    """A number as a person writes it: whole ones with all their digits, unless they are very long."""
    return str(int(number)) if float(number).is_integer() and abs(number) < MAX_NUMBER else f"{number:g}"
