"""The table of a run with what the run wants to know of its rows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from optuna_spark.errors import SpecError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.validation import ValidationSpec


@dataclass(frozen=True)
class TableSpec(DataSpec):
    """A training table whose rows are divided by columns of it, too."""

    validation: ValidationSpec = dataclasses.field(default_factory=ValidationSpec)

    def __post_init__(self) -> None:
        super().__post_init__()
        named = self.row_columns
        for name, column in named.items():
            if column == self.label:
                raise SpecError(f"must name another column than data.label, got {column!r}", name)
        if self.weight is not None and self.weight in self.validation.columns.values():
            raise SpecError(f"must name another column than validation does, got {self.weight!r}", "data.weight")

    @property
    def row_columns(self) -> dict[str, str]:
        of_validation = {f"validation.{name}": column for name, column in self.validation.columns.items()}
        return super().row_columns | of_validation


def table_spec(data: DataSpec, validation: ValidationSpec) -> TableSpec:
    """The table of a run.

    Raises:
        SpecError: One column is to be two things.
    """
    values = {field.name: getattr(data, field.name) for field in dataclasses.fields(DataSpec)}
    return TableSpec(**values, validation=validation)
