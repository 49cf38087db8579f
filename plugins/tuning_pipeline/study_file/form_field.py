"""A field of the trigger form, made from the declaration of the key that it sets.

Whoever may only trigger a DAG must not be able to name code, a file, an address, an option of an interpreter or a
secret. So each field says what it could reach, fields that reach something are offered only where the study file lists
them (`form.fields`), and what has no field at all (objective, py_files, archives, connections, exports) is the
author's alone.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from optuna_spark.spec.form_fields import VALUES
from optuna_spark.spec.key import DeclaredKey, Field, Key, Reach


@dataclass(frozen=True, eq=False)
class FormField:
    """One field of the form.

    Attributes:
        key: Dotted key of the study file this field replaces.
        help: What a newcomer needs to know, units included.
        schema: JSON schema of the value.
        field: What the key's declaration says of the field.
    """

    key: str
    help: str
    schema: dict[str, Any]
    field: Field

    @property
    def param(self) -> str:
        """Name of the Param."""
        return self.field.name or self.key.replace(".", "_")

    @property
    def reach(self) -> Reach:
        return self.field.reach


def form_field(declared: DeclaredKey) -> FormField | None:
    """The field of a key; None for one that a form cannot set."""
    field = declared.key.field
    if field is None:
        return None
    return FormField(declared.path, declared.key.help, _schema(declared, field), field)


def _schema(declared: DeclaredKey, field: Field) -> dict[str, Any]:
    args = get_args(declared.hint) if get_origin(declared.hint) in (Union, types.UnionType) else (declared.hint,)
    kinds = [kind for kind in args if kind is not type(None)]
    schema = _type(kinds[0]) | _limits(declared.key)
    if len(kinds) < len(args):
        schema["type"] = ["null", schema["type"]]
    if field.closed:
        schema["examples"] = list(field.closed)
    return schema | dict(field.schema)


def _type(kind: Any) -> dict[str, Any]:
    if get_origin(kind) is Literal:
        return {"type": "string", "enum": list(get_args(kind))}
    if get_origin(kind) is dict:
        return {"type": "object", **VALUES}
    names: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": names.get(kind, "array")}


def _limits(key: Key) -> dict[str, Any]:
    limits = {
        "minimum": key.minimum,
        "maximum": key.maximum,
        "exclusiveMinimum": key.above,
        "exclusiveMaximum": key.below,
        "pattern": f"^{key.pattern}$" if key.pattern else None,
    }
    return {name: limit for name, limit in limits.items() if limit is not None}
