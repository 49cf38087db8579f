"""A field of the trigger form, and what it could reach if anybody may fill it in.

Whoever may only trigger a DAG must not be able to name code, a file, an address, an option of an interpreter or a
secret. So each field says what it could reach, fields that reach something are offered only where the study file lists
them (`form.fields`), and what has no field at all (objective, py_files, archives, connections, exports) is the
author's alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Reach(Enum):
    """What a value of a field can name; the text says what listing the field means."""

    NOTHING = "nothing outside the search"
    FILE = "any file or address that the cluster can read"
    OPTION = "any Spark property: code on the cluster and on Airflow's worker"
    SECRET = "whether workers get the database's password"  # noqa: S105  # a sentence
    MACHINES = "which machines are rented, and how many"


@dataclass(frozen=True, eq=False)
class FormField:
    """One field of the form.

    Attributes:
        key: Dotted key of the study file this field replaces.
        help: What a newcomer needs to know, units included.
        schema: JSON schema of the value.
        reach: What a value can name. Only Reach.NOTHING is offered without being listed in the study file.
        section: Heading under which the field is folded away; None keeps it in sight.
        name: Name of the Param; by default the key with underscores.
        closed: The texts a run may give, where the study file may name more; empty where the schema decides.
    """

    key: str
    help: str
    schema: dict[str, Any]
    reach: Reach
    section: str | None = None
    name: str = field(default="")
    closed: tuple[str, ...] = ()

    @property
    def param(self) -> str:
        return self.name or self.key.replace(".", "_")


def int_schema(minimum: int, maximum: int, *, null: bool = False) -> dict[str, Any]:
    return {"type": ["null", "integer"] if null else "integer", "minimum": minimum, "maximum": maximum}


def number_schema(*, null: bool = False, **limits: float) -> dict[str, Any]:
    return {"type": ["null", "number"] if null else "number", **limits}


def text_schema(*, null: bool = False, **rules: Any) -> dict[str, Any]:
    return {"type": ["null", "string"] if null else "string", **rules}


# Of numbers without a limit of their own, and of those in objects and lists: Airflow stores none much longer.
MAX_NUMBER = 10**15
VALUE = {"$ref": "#/$defs/value"}
VALUES = {
    "additionalProperties": VALUE,
    "$defs": {"value": {"minimum": -MAX_NUMBER, "maximum": MAX_NUMBER, "items": VALUE, "additionalProperties": VALUE}},
}
OBJECT = {"type": "object", **VALUES}
BOOLEAN = {"type": "boolean"}
SIZE = text_schema(null=True, pattern="^[1-9][0-9]{0,5}[kmgtKMGT]?[bB]?$")

# Headings of the form.
SAMPLING, TRAINING, DATA, CLUSTER, STOPPING, EXPORT = (
    "Search",
    "XGBoost training",
    "Data",
    "Cluster",
    "Stopping and failures",
    "Export",
)
