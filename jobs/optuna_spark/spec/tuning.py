"""What one tuning run is: the only thing that crosses from Airflow to the cluster.

Plain data, standard library only, JSON both ways. It holds no secret: the storage URL, which may carry a
password, travels in the driver's environment.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from optuna_spark.errors import SpecError
from optuna_spark.spec.conditions import check_conditions, is_whole
from optuna_spark.spec.decode import from_dict, to_dict
from optuna_spark.spec.key import check_limits
from optuna_spark.spec.run_keys import RunKeys
from optuna_spark.spec.sections import MAX_JSON, MAX_NAME, NAME, is_utf8
from optuna_spark.spec.table import TableSpec, table_spec

# In characters. A name heads a column of a table and a plot.
LONGEST_METRIC = 100


@dataclass(frozen=True)
class TuningSpec(RunKeys):
    """One run of a study.

    Attributes:
        study_name: Name of the Optuna study.
        run_id: Identity of the run: a second start with the same id goes on where the first stopped. Without one, each
            call of `tune` is a run of its own.
    """

    study_name: str
    _: KW_ONLY
    run_id: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.study_name):
            raise SpecError(
                "study_name must start with a letter or digit and hold only letters, digits, '_', '-' and '.',"
                f" got {self.study_name!r}"
            )
        if not self.directions:
            raise SpecError("directions must name at least one of minimize, maximize")
        check_limits(self)
        if self.stop.target_value is not None and len(self.directions) > 1:
            raise SpecError("stop.target_value works with one direction only; remove it")
        check_conditions(self.search_space)
        self._check_metric_names()
        self._check_format()
        self._check_connection()
        self._check_rows()
        self._check_that_the_database_can_hold_it()

    def _check_metric_names(self) -> None:
        names, wanted = self.metric_names, len(self.directions)
        if names and len(names) != wanted:
            raise SpecError(
                f"metric_names must hold one name for each of directions, which are {wanted}, got {len(names)}"
            )
        for name in names:
            if not name.strip() or len(name) > LONGEST_METRIC or not name.isprintable():
                raise SpecError(
                    f"metric_names: a name must have 1 to {LONGEST_METRIC} characters that can be seen,"
                    f" got {name[:40]!r}"
                )
        if len(set(names)) < len(names):
            raise SpecError(f"metric_names must differ from each other, got {', '.join(names)}")

    def _check_that_the_database_can_hold_it(self) -> None:
        for name in self.search_space:
            if len(name) > MAX_NAME or not is_utf8(name):
                raise SpecError(
                    f"search_space: a name must be at most {MAX_NAME} characters that UTF-8 can hold, got {name[:40]!r}"
                )
        for params in self.enqueue:
            if (size := len(json.dumps(params, default=repr))) > MAX_JSON:
                raise SpecError(f"enqueue: an entry must be at most {MAX_JSON} bytes of JSON, got {size}")

    def _check_format(self) -> None:
        read_by_workers = (None, "csv", "parquet")
        if self.data is None or self.distribution == "dataframe" or self.data.format in read_by_workers:
            return
        raise SpecError(
            f"data.format must be csv or parquet with distribution {self.distribution}, got {self.data.format!r}:"
            " other formats, and tables of Spark's catalog, need distribution dataframe"
        )

    def _check_rows(self) -> None:
        if self.data is None and self.validation.given:
            raise SpecError(
                f"needs a table to divide: give data.path, or remove {self.validation.given[0]}", "validation"
            )
        _ = self.table  # one column is one thing

    def _check_connection(self) -> None:
        if self.data is None or self.data.connection is None:
            return
        spark_reads = self.distribution == "dataframe"
        if spark_reads and self.data.is_url:
            raise SpecError("data.connection with a URL needs distribution rdd or joblib: Spark reads no URLs")
        if not (spark_reads or self.data.is_url or self.data.is_store):
            raise SpecError(
                f"data.connection with distribution {self.distribution} opens https:// URLs and object stores only,"
                f" got {self.data.location!r}: use distribution dataframe"
            )

    @property
    def table(self) -> TableSpec | None:
        """The training table with all columns that the run needs of it, those of `validation` among them."""
        return None if self.data is None else table_spec(self.data, self.validation)

    @property
    def errors_may_quote(self) -> bool:
        """Whether the text of any error may be shown; not where it may hold content of a file that a run named."""
        return self.data is None or self.data.names_in_errors

    def allows(self, params: Mapping[str, Any]) -> bool:
        """Whether a trial with these parameters fits the search space; any does where the objective defines it."""
        space = self.search_space
        known = params.keys() <= space.keys() and all(space[name].allows(value) for name, value in params.items())
        return not space or (known and is_whole(space, params))

    def to_json(self) -> str:
        """The spec as one line of JSON."""
        return json.dumps(to_dict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> TuningSpec:
        """Read what `to_json` wrote.

        Raises:
            SpecError: The text is not JSON, or not a valid spec.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise SpecError(f"the tuning spec is not valid JSON: {error}") from None
        return from_dict(cls, data)

    def identified(self) -> TuningSpec:
        """The spec of one run: this one, with a new id if it has none."""
        return self if self.run_id else self.with_changes(run_id=uuid.uuid4().hex)

    def with_changes(self, **changes: Any) -> TuningSpec:
        """A copy with some fields replaced, checked again."""
        return replace(self, **changes)
