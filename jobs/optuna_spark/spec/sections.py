"""The sections of a run's spec, each with its own checks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from optuna_spark.errors import SpecError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,249}")
PARQUET_ENDINGS = (".parquet", ".pq")
_SHA256 = re.compile(r"[0-9a-f]{64}")
Scalar = None | bool | int | float | str


def at_least(name: str, value: float | None, minimum: int) -> None:
    """Refuse a number below `minimum`; None is no number."""
    if value is not None and value < minimum:
        raise SpecError(f"{name} must be at least {minimum}, got {value:g}")


@dataclass(frozen=True)
class ParamSpec:
    """One parameter of the search space, with the arguments of Optuna's suggest methods.

    Attributes:
        type: Which distribution: float, int or categorical.
        low, high: Inclusive bounds of a float or int.
        step: Distance between allowed values; not together with `log`.
        log: Sample on a logarithmic scale; `low` must then be positive.
        choices: The values of a categorical.
    """

    type: Literal["float", "int", "categorical"]
    low: float | None = None
    high: float | None = None
    step: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.type == "categorical":
            self._check_choices()
        else:
            self._check_range()

    def _check_choices(self) -> None:
        if not self.choices:
            raise SpecError("a categorical parameter needs at least one entry in choices")
        if self.low is not None or self.high is not None or self.step is not None or self.log:
            raise SpecError("a categorical parameter takes choices only, not low, high, step or log")
        bad = [c for c in self.choices if not isinstance(c, None | bool | int | float | str)]
        if bad:
            raise SpecError(f"choices must be null, true/false, numbers or texts, got {bad[0]!r}")

    def _check_range(self) -> None:
        if self.choices:
            raise SpecError(f"choices are for categorical parameters; a {self.type} takes low and high")
        if self.low is None or self.high is None:
            raise SpecError(f"a {self.type} parameter needs low and high")
        if self.low > self.high:
            raise SpecError(f"low must not be above high, got {self.low:g} > {self.high:g}")
        if self.log and self.step is not None:
            raise SpecError("log and step cannot be combined; remove one of them")
        if self.log and self.low <= 0:
            raise SpecError(f"low must be above 0 when log is true, got {self.low:g}")
        if self.step is not None and self.step <= 0:
            raise SpecError(f"step must be above 0, got {self.step:g}")
        if self.type == "int" and any(
            v is not None and not float(v).is_integer() for v in (self.low, self.high, self.step)
        ):
            raise SpecError("low, high and step of an int parameter must be whole numbers")


@dataclass(frozen=True)
class ComponentSpec:
    """A sampler or pruner: its class name in Optuna and the keyword arguments of its constructor."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSpec:
    """The training table.

    Attributes:
        path: A path the workers can read, a URL, or `sklearn:<name>` for a table bundled with scikit-learn.
        format: csv or parquet; by default what the path's ending says, else csv. With the `dataframe` distribution also
            any other format Spark reads, or `table`: then `path` is the name of a table or view of Spark's catalog.
        separator: Field separator of a CSV file, one character.
        label: Column to predict; by default the last one.
        sha256: Hex digest the file must have; required for a URL, so that every worker trains on the same bytes.
        format_options: Spark reader options, for the `dataframe` distribution only.
        connection: Id of the Airflow connection that opens the table; what is secret in it travels beside the spec.
        names_in_errors: Whether errors may name the table's columns, and Spark's own words stand in them. A run whose
            form gave the path has them named by number: its errors tell nothing of what stands in the file.
    """

    path: str
    format: str | None = None
    separator: str = ","
    label: str | None = None
    sha256: str | None = None
    format_options: dict[str, str] = field(default_factory=dict)
    connection: str | None = None
    names_in_errors: bool = True

    def __post_init__(self) -> None:
        if not self.path:
            raise SpecError("path must name a file, a URL or sklearn:<name>, got an empty text")
        if len(self.separator) != 1:
            raise SpecError(f"separator must be one character, got {self.separator!r}")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise SpecError(f"sha256 must be 64 lower-case hex digits, got {self.sha256!r}")
        if self.is_url and self.sha256 is None:
            raise SpecError("sha256 is required for a URL: run sha256sum on the file and add it")
        if self.connection is not None:
            self._check_connection(self.connection)

    def _check_connection(self, connection: str) -> None:
        if not NAME.fullmatch(connection):
            raise SpecError(f"connection must be the id of an Airflow connection, got {connection!r}")
        if self.is_bundled or self.is_catalog_table:
            raise SpecError(
                "connection is for files, URLs and databases; for tables of Spark's catalog name a connection in"
                " spark.conf_connection"
            )
        if self.is_url and not self.path.startswith("https://"):
            raise SpecError(
                f"connection needs an https:// URL: anyone on the way reads the login else, got {self.path}"
            )

    @property
    def is_url(self) -> bool:
        return self.path.startswith(("http://", "https://", "ftp://"))

    @property
    def is_bundled(self) -> bool:
        return self.path.startswith("sklearn:")

    @property
    def is_catalog_table(self) -> bool:
        return self.format == "table"

    def format_of(self, path: str, is_folder: bool = False) -> str:
        """The format of the file or folder at `path`: what the spec says, else what the ending says, else csv."""
        return self.format or ("parquet" if is_folder or path.endswith(PARQUET_ENDINGS) else "csv")


@dataclass(frozen=True)
class XGBoostSpec:
    """How the built-in `xgboost` objective trains and scores a trial.

    Attributes:
        task: regression, binary or multiclass; sets XGBoost's own `objective` unless `fixed` does.
        metric: One XGBoost eval metric, or one per direction of the study; by default rmse, logloss, mlogloss.
        holdout: Share of the rows kept for validation, in (0, 1); ignored when `folds` is given.
        folds: Number of cross-validation folds (at least 2); the value is the mean over the folds.
        num_boost_round: Boosting rounds, at most.
        early_stopping_rounds: Stop when the (first) metric has not improved for so many rounds; None = never.
        report_every: Report to the pruner every so many rounds.
        fixed: XGBoost parameters that are not tuned.
    """

    task: Literal["regression", "binary", "multiclass"] = "regression"
    metric: str | tuple[str, ...] | None = None
    holdout: float = 0.2
    folds: int | None = None
    num_boost_round: int = 1000
    early_stopping_rounds: int | None = None
    report_every: int = 10
    fixed: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.holdout < 1:
            raise SpecError(f"holdout must be between 0 and 1 (exclusive), got {self.holdout:g}")
        if self.folds is not None and self.folds < 2:
            raise SpecError(f"folds must be at least 2, got {self.folds}")
        for name in ("num_boost_round", "report_every", "early_stopping_rounds"):
            at_least(name, getattr(self, name), 1)


@dataclass(frozen=True)
class ResourceSpec:
    """What one Spark task (= one worker, one trial at a time) occupies.

    Attributes:
        cpus_per_task: CPU cores of a task; also XGBoost's `nthread` on the CPU.
        gpus_per_task: GPUs of a task; a fraction such as 0.25 lets four trials share a GPU; 0 = CPU.
    """

    cpus_per_task: int = 1
    gpus_per_task: float = 0.0

    def __post_init__(self) -> None:
        at_least("cpus_per_task", self.cpus_per_task, 1)
        gpus = self.gpus_per_task
        if gpus < 0 or (gpus > 1 and not float(gpus).is_integer()):
            raise SpecError(f"gpus_per_task must be 0, a fraction up to 1, or a whole number, got {gpus:g}")


@dataclass(frozen=True)
class StopSpec:
    """What ends a run before its trials are spent, and what makes it fail.

    Attributes:
        target_value: Stop when the best value reaches it (single objective).
        terminator: Stop when Optuna's terminator expects no further improvement.
        max_failures: The run fails when this many trials failed in all; None = no limit.
        max_consecutive_failures: The run fails when this many trials failed in a row.
        failures_count: A failed trial uses up one of the run's trials.
        max_retries: How often the parameters of a trial whose worker died are queued again.
    """

    target_value: float | None = None
    terminator: bool = False
    max_failures: int | None = None
    max_consecutive_failures: int = 10
    failures_count: bool = False
    max_retries: int = 2

    def __post_init__(self) -> None:
        at_least("max_failures", self.max_failures, 1)
        at_least("max_consecutive_failures", self.max_consecutive_failures, 1)
        at_least("max_retries", self.max_retries, 0)


@dataclass(frozen=True)
class CoordinatorSpec:
    """How the workers reach the driver when it coordinates the run.

    Attributes:
        port: TCP port on the driver's host; 0 = any free one. Fix it where a firewall needs to know.
        heartbeat_s: A worker that says nothing for six times this many seconds is taken for dead.
        history: Finished trials the sampler and pruner look at, at most; bounds the cost of long studies.
        ask_ahead: Sample the next trial while workers are busy.
    """

    port: int = 0
    heartbeat_s: float = 10.0
    history: int = 1000
    ask_ahead: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise SpecError(f"port must be between 0 and 65535, got {self.port}")
        if self.heartbeat_s <= 0:
            raise SpecError(f"heartbeat_s must be above 0, got {self.heartbeat_s:g}")
        at_least("history", self.history, 100)
