"""The `spark` section of a study file: how the application is submitted."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from optuna_spark.errors import SpecError
from optuna_spark.spec.decode import describe

_SIZE = re.compile(r"[1-9][0-9]*[kmgtKMGT]?[bB]?")

OWN_CONF = {
    "spark.master": "the Spark connection",
    "spark.submit.deployMode": "the Spark connection",
    "spark.task.cpus": "resources.cpus_per_task",
    "spark.task.resource.gpu.amount": "resources.gpus_per_task",
}


@dataclass(frozen=True)
class SparkSettings:
    """How the Spark application is submitted.

    Attributes:
        conf: Spark properties; they win over what is derived from tasks and resources.
        conf_connection: Id of the Airflow connection whose extra holds Spark properties that are secret.
        executor_cores, executor_memory, driver_memory: As spark-submit knows them ("4", "8g", "2g").
        py_files: Python files or zips the objective needs.
        archives: Archives Spark unpacks on each worker, `path#name`.
    """

    conf: dict[str, Any] = field(default_factory=dict)
    conf_connection: str | None = None
    executor_cores: int | None = None
    executor_memory: str | None = None
    driver_memory: str | None = None
    py_files: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.executor_cores is not None and self.executor_cores < 1:
            raise SpecError(f"executor_cores must be at least 1, got {self.executor_cores}")
        for name in ("executor_memory", "driver_memory"):
            value = getattr(self, name)
            if value is not None and not _SIZE.fullmatch(value):
                raise SpecError(f"{name} must be a size such as 2g or 512m, got {value!r}")
        for key, value in self.conf.items():
            self._check_conf(key, value)

    @staticmethod
    def _check_conf(key: str, value: object) -> None:
        if not key.startswith("spark."):
            raise SpecError(f"conf keys start with 'spark.', got {key!r}")
        if key in OWN_CONF:
            raise SpecError(f"conf key {key} is set by {OWN_CONF[key]}; remove it here")
        if not isinstance(value, bool | int | float | str):
            raise SpecError(f"conf value of {key} must be a text, a number or true/false, got {describe(value)}")


def conf_text(value: Any) -> str:
    """A Spark property's value as Spark writes it: true and false in small letters."""
    return str(value).lower() if isinstance(value, bool) else str(value)
