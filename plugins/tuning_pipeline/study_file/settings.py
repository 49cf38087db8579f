"""The settings of a study: the keys of its file, and the rules that they have to keep."""

from __future__ import annotations

import datetime
import zoneinfo
from dataclasses import dataclass

from optuna_spark.errors import SpecError
from optuna_spark.spec.key import check_limits
from tuning_pipeline.study_file.form import check_form
from tuning_pipeline.study_file.keys.retune import check_retune
from tuning_pipeline.study_file.keys.study_keys import StudyKeys
from tuning_pipeline.targets.registry import kind_of

_FIRST_YEAR, _LAST_YEAR = 1970, 2999


@dataclass(frozen=True)
class StudySettings(StudyKeys):
    """The keys of a study file, found right."""

    def __post_init__(self) -> None:
        kind_of(self).check(self)
        if self.keep_exports is not None and self.keep_exports < 1:
            raise SpecError(f"keep_exports must be at least 1, or null to keep all, got {self.keep_exports}")
        check_limits(self)
        if self.timeout_s is not None and self.timeout_s + self.grace_s >= self.execution_timeout_s:
            raise SpecError(
                f"timeout_s and grace_s must add up to less than execution_timeout_s ({self.execution_timeout_s:g}),"
                f" else the task is killed before it ends by itself; got {self.timeout_s:g} + {self.grace_s:g}"
            )
        if any(not tag or len(tag) > 100 for tag in self.tags):
            raise SpecError("tags must be texts of 1 to 100 characters")
        if not self.pool:
            raise SpecError("pool must name an Airflow pool, such as default_pool; got an empty text")
        check_retune(self.retune, has_data=self.data is not None, directions=len(self.directions))
        check_form(self)
        if self.distribution == "local":
            raise SpecError("distribution local is for runs without Spark; use joblib, rdd or dataframe")
        self.first_day()
        self._check_timezone()

    def first_day(self) -> datetime.date | None:
        """`start_date` as a day."""
        if self.start_date is None:
            return None
        try:
            day = datetime.datetime.strptime(self.start_date, "%Y-%m-%d").date()
        except ValueError:
            raise SpecError(f"start_date must be a day such as 2026-01-31, got {self.start_date!r}") from None
        if not _FIRST_YEAR <= day.year <= _LAST_YEAR:
            raise SpecError(f"start_date must be from {_FIRST_YEAR} to {_LAST_YEAR}, got {self.start_date!r}")
        return day

    def _check_timezone(self) -> None:
        if self.timezone is not None and self.timezone not in zoneinfo.available_timezones():
            raise SpecError(f"timezone must be a name such as Europe/Berlin or UTC, got {self.timezone!r}")
