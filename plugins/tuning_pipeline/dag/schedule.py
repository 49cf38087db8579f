"""When a study's DAG runs by itself: its time zone, its first day, its schedule.

One time zone governs both start_date and schedule: the study file's `timezone`, else Airflow's default_timezone. A cron
expression means that zone's wall clock, in summer and in winter.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.sdk import Asset, AssetAny, AssetOrTimeSchedule, CronTriggerTimetable
from airflow.sdk.configuration import conf
from croniter import CroniterBadDateError, croniter
from pendulum.tz.local_timezone import get_local_timezone

from optuna_spark.errors import SpecError

if TYPE_CHECKING:
    from pendulum.tz.timezone import FixedTimezone, Timezone

    from tuning_pipeline.study_file.settings import StudySettings

# Words that Airflow takes instead of a cron expression, and that are no moments of a clock.
_NO_CLOCK = ("@once", "@continuous")


def zone_of(settings: StudySettings) -> Timezone | FixedTimezone:
    """The time zone of a study's schedule and first day."""
    name = settings.timezone or conf.get_mandatory_value("core", "default_timezone")
    if settings.timezone is None and name == "system":
        return get_local_timezone()
    return pendulum.UTC if name.lower() == "utc" else pendulum.Timezone(name)


def first_moment(settings: StudySettings) -> datetime.datetime | None:
    """When `start_date` begins."""
    day = settings.first_day()
    return None if day is None else pendulum.datetime(day.year, day.month, day.day, tz=zone_of(settings))


def dag_schedule(settings: StudySettings) -> Any:
    """What Airflow's DAG takes as its schedule: a timetable, assets, both, or nothing."""
    clock, assets = _clock(settings), [Asset(name) for name in settings.retune.assets]
    if not assets:
        return clock
    any_of_them = AssetAny(*assets)
    if clock is None:
        return any_of_them
    if isinstance(clock, str):
        raise SpecError(f"schedule {clock} cannot be had together with retune.assets; use a cron expression")
    return AssetOrTimeSchedule(timetable=clock, assets=any_of_them)


def _clock(settings: StudySettings) -> CronTriggerTimetable | str | None:
    cron = settings.schedule
    if cron is None or cron in _NO_CLOCK:
        return cron
    return CronTriggerTimetable(cron, timezone=zone_of(settings))


def check_comes(cron: str | None) -> None:
    """Refuse a cron expression whose moment never comes, such as the 30th of February.

    Raises:
        SpecError: There is no such moment within the 50 years that croniter looks at.
    """
    if cron is None or cron.startswith("@"):
        return
    try:
        croniter(cron, datetime.datetime.now(datetime.UTC)).get_next()
    except CroniterBadDateError:
        raise SpecError(f"schedule must come some day, and {cron!r} names a moment that no year has") from None
