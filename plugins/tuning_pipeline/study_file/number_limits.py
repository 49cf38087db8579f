"""The largest value of every number of a study: what the form takes, also where no form shows it, and the file's own.

None of them is near: each is there so that no number that a person can type ends in a stack of Airflow's, of the
database's or of a clock's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from optuna_spark.errors import SpecError
from tuning_pipeline.study_file.fields.field import MAX_NUMBER
from tuning_pipeline.study_file.form import possible_fields

if TYPE_CHECKING:
    from tuning_pipeline.study_file.keys import StudyKeys

_DAY_S, _WORKERS = 86_400, 10_000
# Numbers without a field. A run may take (retries + 1) * execution_timeout_s, which is still a time on the calendar.
FILE_MAXIMA: dict[str, float] = {
    "retries": 100,
    "retry_delay_s": _DAY_S,
    "execution_timeout_s": 100_000_000,
    "keep_exports": 1_000_000,
    "keep_replaced": 10_000,
    "retune.drift": 1_000_000,
    "retune.warm_start": 10_000,
    "coordinator.port": 65_535,
    "coordinator.heartbeat_s": 3_600,
    "coordinator.history": 10_000_000,
    "database.wait_s": _DAY_S,
    "databricks.poll_s": 3_600,
    "databricks.dump_every_s": _DAY_S,
    "databricks.cluster.autoscale.min_workers": _WORKERS,
    "databricks.cluster.autoscale.max_workers": _WORKERS,
}


def check_numbers(keys: StudyKeys) -> None:
    """Refuse a number beyond its largest value.

    Raises:
        SpecError: With the key.
    """
    for key, limit in _maxima(keys):
        value = _value_at(keys, key)
        if value is not None and value > limit:
            raise SpecError(f"{key} must be at most {_shown(limit)}, got {_shown(value)}")
    for name, param in keys.search_space.items():
        for end in (param.low, param.high, param.step):
            if end is not None and abs(end) > MAX_NUMBER:
                raise SpecError(
                    f"search_space.{name}: numbers must be between -{MAX_NUMBER:.0e} and {MAX_NUMBER:.0e},"
                    f" got {_shown(end)}"
                )


def _maxima(keys: StudyKeys) -> Iterator[tuple[str, float]]:
    for item in possible_fields(keys):
        if "maximum" in item.schema:
            yield item.key, item.schema["maximum"]
    yield from FILE_MAXIMA.items()


def _value_at(keys: StudyKeys, key: str) -> Any:
    value: Any = keys
    for name in key.split("."):
        value = getattr(value, name, None)
    return value


def _shown(number: float) -> str:
    return str(int(number)) if float(number).is_integer() and abs(number) < 1e15 else f"{number:g}"
