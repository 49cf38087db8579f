"""The `spark` section of a study file: how the application is submitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from optuna_spark.errors import SpecError
from optuna_spark.spec.decode import describe
from optuna_spark.spec.form_fields import CLUSTER, plain
from optuna_spark.spec.key import Field, Reach, check_limits, key

_SIZE = "[1-9][0-9]{0,5}[kmgtKMGT]?[bB]?"
_A_SIZE = "be a size such as 2g or 512m"

OWN_CONF = {
    "spark.master": "the Spark connection",
    "spark.submit.deployMode": "the Spark connection",
    "spark.task.cpus": "resources.cpus_per_task",
    "spark.task.resource.gpu.amount": "resources.gpus_per_task",
}


@dataclass(frozen=True)
class SparkSettings:
    """How the Spark application is submitted."""

    executor_cores: int | None = key(
        None,
        "CPU cores of an executor. null: what its trials need.",
        minimum=1,
        maximum=1_024,
        field=plain(CLUSTER),
    )
    executor_memory: str | None = key(
        None,
        "Memory of an executor, such as 8g or 512m. null: as Spark is set up.",
        pattern=_SIZE,
        must=_A_SIZE,
        field=plain(CLUSTER),
    )
    driver_memory: str | None = key(
        None,
        "Memory of the driver, such as 2g. null: as Spark is set up.",
        pattern=_SIZE,
        must=_A_SIZE,
        field=plain(CLUSTER),
    )
    conf: dict[str, Any] = key(
        None,
        "Further Spark properties, such as {spark.network.timeout: 300s}; they win over what is derived.",
        make=dict,
        field=Field(Reach.OPTION, CLUSTER),
    )
    conf_connection: str | None = key(None, "Airflow connection whose extra holds Spark properties that are secret.")
    py_files: tuple[str, ...] = key((), "Python files or zips that the objective needs.")
    archives: tuple[str, ...] = key((), "Archives that Spark unpacks on each worker: environment.tar.gz#environment.")

    def __post_init__(self) -> None:
        check_limits(self)
        for name, value in self.conf.items():
            self._check_conf(name, value)

    @staticmethod
    def _check_conf(name: str, value: object) -> None:
        if not name.startswith("spark."):
            raise SpecError(f"conf keys start with 'spark.', got {name!r}")
        if name in OWN_CONF:
            raise SpecError(f"conf key {name} is set by {OWN_CONF[name]}; remove it here")
        if not isinstance(value, bool | int | float | str):
            raise SpecError(f"conf value of {name} must be a text, a number or true/false, got {describe(value)}")


def conf_text(value: Any) -> str:
    """A Spark property's value as Spark writes it: true and false in small letters."""
    return str(value).lower() if isinstance(value, bool) else str(value)
