"""When a study runs by itself: one time zone for its schedule and its first day, also over a change of the clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow import QUICK_STUDY, DagFolder
from tests.support.studies import study_reader
from tuning_pipeline.dag.schedule import first_moment, zone_of
from tuning_pipeline.dag.studies import read_studies
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError

Study = Callable[[str], StudyFile]
BERLIN = "timezone: Europe/Berlin\n"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_reader(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> DagFolder:
    return DagFolder.create(tmp_path / "dags", quick=QUICK_STUDY)


def slots(folder: DagFolder, text: str, since: datetime, count: int) -> list[str]:
    """When the scheduler would start the study's next runs, in UTC, as it reads the DAG."""
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.timetables.base import DataInterval, TimeRestriction

    folder.write_study("quick", QUICK_STUDY + text)
    bag = folder.bag()
    assert bag.import_errors == {}
    dag: Any = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags["tune_quick"]))
    import pendulum

    found, last = [], None
    restriction = TimeRestriction(earliest=pendulum.instance(since), latest=None, catchup=True)
    for _ in range(count):
        info = dag.timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        found.append(info.run_after.astimezone(UTC).strftime("%m-%d %H:%M"))
        last = DataInterval.exact(info.run_after)
    return found


@pytest.mark.parametrize("first", ["", "start_date: 2026-01-01\n"])
@pytest.mark.parametrize("assets", ["", "retune: {assets: [table]}\n"])
@pytest.mark.parametrize("own_zone", [True, False])
def test_a_schedule_keeps_its_wall_clock_when_the_clock_changes(
    own_zone: bool, assets: str, first: str, folder: DagFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not own_zone:
        monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", "Europe/Berlin")
    text = f"schedule: '0 6 * * *'\n{first}{assets}{BERLIN if own_zone else ''}"
    assert slots(folder, text, datetime(2026, 10, 24, tzinfo=UTC), 3) == ["10-24 04:00", "10-25 05:00", "10-26 05:00"]
    assert slots(folder, text, datetime(2027, 3, 27, tzinfo=UTC), 3) == ["03-27 05:00", "03-28 04:00", "03-29 04:00"]


def test_the_hour_that_comes_twice_and_the_hour_that_is_skipped(folder: DagFolder) -> None:
    text = f"schedule: '30 2 * * *'\n{BERLIN}"
    autumn = slots(folder, text, datetime(2026, 10, 24, tzinfo=UTC), 3)
    assert autumn == ["10-24 00:30", "10-25 01:30", "10-26 01:30"]  # the second of the two
    spring = slots(folder, text, datetime(2027, 3, 27, tzinfo=UTC), 3)
    assert spring == ["03-27 01:30", "03-28 01:30", "03-29 00:30"]  # 3:30 by the clock that was set
    hourly = slots(folder, f"schedule: '0 * * * *'\n{BERLIN}", datetime(2026, 10, 24, 23, tzinfo=UTC), 4)
    assert hourly == ["10-24 23:00", "10-25 00:00", "10-25 01:00", "10-25 02:00"]


def test_a_zone_of_the_study_wins_over_airflows(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", "Asia/Tokyo")
    text = "objective: quadratic\nstart_date: 2026-10-26\n"
    assert zone_of(study(text).settings).name == "Asia/Tokyo"
    moment = first_moment(study(text + BERLIN).settings)
    assert moment is not None
    assert moment.astimezone(UTC).isoformat() == "2026-10-25T23:00:00+00:00"


def test_without_a_word_the_zone_is_airflows_own(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", "system")
    assert zone_of(study("objective: quadratic\n").settings).utcoffset(datetime(2026, 1, 1)) is not None
    monkeypatch.delenv("AIRFLOW__CORE__DEFAULT_TIMEZONE")
    assert zone_of(study("objective: quadratic\n").settings).name == "UTC"


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/localtime", "/etc/passwd", "", "europe/berlin"])
def test_a_zone_that_nobody_knows_is_a_sentence(zone: str, study: Study) -> None:
    with pytest.raises(StudyFileError, match="timezone must be a name such as Europe/Berlin or UTC, got"):
        study(f"objective: quadratic\ntimezone: '{zone}'\n")


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", "1969-12-31"])
def test_a_first_day_that_no_clock_reaches_is_a_sentence(day: str, study: Study) -> None:
    with pytest.raises(StudyFileError, match="start_date must be from 1970 to 2999"):
        study(f"objective: quadratic\nstart_date: '{day}'\n")


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30 2 * 0"])
def test_a_schedule_that_never_comes_is_an_import_error_of_its_file(cron: str, folder: DagFolder) -> None:
    for more in ("", "retune: {assets: [table]}\n"):
        folder.write_study("never", f"objective: quadratic\nschedule: '{cron}'\n{more}")
        found = read_studies(folder.path / "studies")
        assert [study.name for study in found.studies] == ["quick"]
        [error] = found.errors
        assert error.endswith("names a moment that no year has")
        assert "never.yaml: schedule must come some day" in error


def test_a_leap_day_comes(folder: DagFolder) -> None:
    folder.write_study("quick", "objective: quadratic\nschedule: '0 0 29 2 *'\n")
    assert read_studies(folder.path / "studies").errors == ()
