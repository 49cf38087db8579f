"""What one tuning run is: the only thing that crosses from Airflow to the cluster.

Plain data, standard library only, JSON both ways. It holds no secret: the storage URL, which may carry a
password, travels in the driver's environment.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from optuna_spark.errors import SpecError
from optuna_spark.spec.decode import from_dict, to_dict
from optuna_spark.spec.sections import (
    NAME,
    ComponentSpec,
    CoordinatorSpec,
    DataSpec,
    ParamSpec,
    ResourceSpec,
    StopSpec,
    XGBoostSpec,
    at_least,
)

Direction = Literal["minimize", "maximize"]
Distribution = Literal["joblib", "rdd", "dataframe", "local"]
Coordination = Literal["driver", "database"]

DIRECTIONS: tuple[str, ...] = get_args(Direction)
DISTRIBUTIONS: tuple[str, ...] = get_args(Distribution)
COORDINATIONS: tuple[str, ...] = get_args(Coordination)


@dataclass(frozen=True)
class TuningSpec:
    """One run of a study.

    Attributes:
        study_name: Name of the Optuna study.
        objective: `quadratic`, `xgboost`, or `module:function` for one of the user's own.
        directions: minimize or maximize, one per value the objective returns.
        search_space: Parameters by name, in the order in which they are suggested. An own objective may
            leave it empty and define its space by running.
        sampler, pruner: Optuna classes by name, or `ExtrapolationPruner`.
        seed: Seed of the sampler and of the train/validation split; None = not reproducible.
        trials: Trials this run finishes (complete or pruned).
        tasks: Spark tasks = workers = trials at the same time.
        jobs: Threads that start Spark jobs at once (`joblib` distribution only).
        distribution: How the workers are started, and who reads the table.
        coordination: Who hands out the trials: the driver, or each worker for itself through the database.
        timeout_s: Start no trial after so many seconds; None = no limit.
        enqueue: Parameter sets to try first.
        run_id: Identity of the run: a second start with the same id goes on where the first stopped.
    """

    study_name: str
    objective: str = "quadratic"
    directions: tuple[Direction, ...] = ("minimize",)
    search_space: dict[str, ParamSpec] = field(default_factory=dict)
    data: DataSpec | None = None
    xgboost: XGBoostSpec | None = None
    sampler: ComponentSpec = ComponentSpec("TPESampler")
    pruner: ComponentSpec = ComponentSpec("NopPruner")
    seed: int | None = None
    trials: int = 100
    tasks: int = 2
    jobs: int = 8
    timeout_s: float | None = None
    distribution: Distribution = "joblib"
    coordination: Coordination = "driver"
    resources: ResourceSpec = ResourceSpec()
    stop: StopSpec = StopSpec()
    coordinator: CoordinatorSpec = CoordinatorSpec()
    enqueue: tuple[dict[str, Any], ...] = ()
    run_id: str = "manual"

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.study_name):
            raise SpecError(
                "study_name must start with a letter or digit and hold only letters, digits, '_', '-' and '.',"
                f" got {self.study_name!r}"
            )
        if not self.directions:
            raise SpecError("directions must name at least one of minimize, maximize")
        for name in ("trials", "tasks", "jobs"):
            at_least(name, getattr(self, name), 1)
        if self.timeout_s is not None and self.timeout_s <= 0:
            raise SpecError(f"timeout_s must be above 0, got {self.timeout_s:g}")
        self._check_objective()
        self._check_format()
        self._check_connection()

    def _check_objective(self) -> None:
        if self.objective not in ("quadratic", "xgboost") and not re.fullmatch(
            r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", self.objective
        ):
            raise SpecError(f"objective must be quadratic, xgboost or module:function, got {self.objective!r}")
        if self.objective == "xgboost" and self.data is None:
            raise SpecError("objective xgboost needs data: give data.path (and data.label)")
        if self.objective != "xgboost" and self.xgboost is not None:
            raise SpecError(f"the xgboost section is for objective xgboost, not {self.objective}")
        if self.stop.target_value is not None and len(self.directions) > 1:
            raise SpecError("stop.target_value works with one direction only; remove it")

    def _check_format(self) -> None:
        read_by_workers = (None, "csv", "parquet")
        if self.data is None or self.distribution == "dataframe" or self.data.format in read_by_workers:
            return
        raise SpecError(
            f"data.format must be csv or parquet with distribution {self.distribution}, got {self.data.format!r}:"
            " other formats, and tables of Spark's catalog, need distribution dataframe"
        )

    def _check_connection(self) -> None:
        if self.data is None or self.data.connection is None:
            return
        spark_reads = self.distribution == "dataframe"
        if spark_reads and self.data.is_url:
            raise SpecError("data.connection with a URL needs distribution rdd or joblib: Spark reads no URLs")
        if not spark_reads and not self.data.is_url:
            raise SpecError(
                f"data.connection with distribution {self.distribution} opens https:// URLs only, got"
                f" {self.data.path!r}: use distribution dataframe"
            )

    @property
    def errors_may_quote(self) -> bool:
        """Whether the text of any error may be shown; not where it may hold content of a file that a run named."""
        return self.data is None or self.data.names_in_errors

    @property
    def max_steps(self) -> int | None:
        """The last step a full trial reports; None where only the user's objective knows."""
        if self.objective != "xgboost":
            return None
        tuned = self.search_space.get("num_boost_round")
        return int(tuned.high) if tuned and tuned.high else (self.xgboost or XGBoostSpec()).num_boost_round

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

    def with_changes(self, **changes: Any) -> TuningSpec:
        """A copy with some fields replaced, checked again."""
        return replace(self, **changes)
