"""Fields of the trigger form, as declarations of keys give them: headings, and JSON schemas of odd values."""

from __future__ import annotations

from typing import Any

from optuna_spark.spec.key import MAX_NUMBER, Field, Reach

# Headings under which fields are folded away, in the order of the form; those of objectives come after them.
SEARCH, CLUSTER, STOPPING, EXPORT, DATA = "Search", "Cluster", "Stopping and failures", "Export", "Data"
HEADINGS = (None, SEARCH, CLUSTER, STOPPING, EXPORT, DATA)

VALUE = {"$ref": "#/$defs/value"}
VALUES = {
    "additionalProperties": VALUE,
    "$defs": {"value": {"minimum": -MAX_NUMBER, "maximum": MAX_NUMBER, "items": VALUE, "additionalProperties": VALUE}},
}


def plain(heading: str | None = None, name: str = "", **more: Any) -> Field:
    """A field whose values reach nothing outside the search, and which every form has unless it lists others."""
    return Field(Reach.NOTHING, heading, name, **more)
