"""Runs that nobody triggers by hand: what starts them, when they skip, what they try first."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy

from optuna_spark.errors import SpecError
from optuna_spark.sampling.search_space import distributions
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from tests.support.airflow import QUICK_STUDY, DagFolder
from tests.support.connections import set_connection
from tests.support.s3_server import HUSH, KEY, S3Server
from tuning_pipeline.dag.schedule import dag_schedule
from tuning_pipeline.exports.published import is_better
from tuning_pipeline.exports.tuned_on import TUNED_ON
from tuning_pipeline.failures import TaskError
from tuning_pipeline.retune.fingerprint import data_fingerprint
from tuning_pipeline.retune.rescoring import drop_unfit_rescores, rescored_value, rescoring
from tuning_pipeline.retune.rules import decide
from tuning_pipeline.retune.warm_start import warm_started
from tuning_pipeline.study_file.keys.retune import RetuneSettings
from tuning_pipeline.study_file.settings import StudySettings
from tuning_pipeline.study_file.study_file import StudyFileError, read_study

SPACE = {
    "x": ParamSpec("float", 0.0, 1.0),
    "n": ParamSpec("int", 1, 5),
    "kind": ParamSpec("categorical", choices=("a", "b")),
}


def study_with(*values: float, **attributes: Any) -> optuna.Study:
    study = optuna.create_study()
    for value in values:
        study.add_trial(optuna.create_trial(value=value))
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    return study


def answer(rule: str, study: optuna.Study | None, rescored: float | None = None, **facts: Any) -> tuple[bool, str]:
    settings = RetuneSettings(rule=rule, drift=0.1)  # type: ignore[arg-type]  # one of the three, as the tests say
    known: dict[str, Any] = {"by_hand": False, "fingerprint": "today"} | facts
    decision = decide(settings, study=study, rescored=rescored, **known)
    return decision.tune, decision.reason


def test_a_run_by_hand_always_tunes() -> None:
    assert answer("new_data", study_with(1.0, tuned_on="today"), by_hand=True) == (True, "triggered by hand")


@pytest.mark.parametrize("rule", ["new_data", "drift"])
def test_without_an_earlier_result_there_is_something_to_do(rule: str) -> None:
    assert answer(rule, None) == answer(rule, study_with()) == (True, "there is no earlier result")


def test_the_same_data_is_skipped_and_new_data_tuned() -> None:
    same, reason = answer("new_data", study_with(1.0, **{TUNED_ON: "today"}))
    assert not same
    assert reason == "the data has not changed since the last export"
    assert answer("new_data", study_with(1.0, **{TUNED_ON: "yesterday"}))[0]


def test_the_best_trial_must_move_by_more_than_the_limit() -> None:
    assert answer("drift", study_with(2.0, 3.0), 2.1) == (
        False,
        "the best trial had 2 and has 2.1 on today's data, a change of 5.00%; the limit is 10.00%",
    )
    assert answer("drift", study_with(2.0, 3.0), 2.5)[0]
    assert answer("drift", study_with(2.0, 3.0), None)[0]
    assert answer("drift", study_with(0.0), 0.0)[0] is False


def test_a_fingerprint_follows_the_files(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("x,y\n1,2\n")
    data = DataSpec(str(table))
    before = data_fingerprint(data)
    assert before == data_fingerprint(data)
    table.write_text("x,y\n1,2\n3,4\n")
    after = data_fingerprint(data)
    assert after != before
    os.utime(table, (1, 1))
    assert data_fingerprint(data) != after
    folder = data_fingerprint(DataSpec(str(tmp_path)))
    (tmp_path / "more.csv").write_text("")
    assert data_fingerprint(DataSpec(str(tmp_path))) != folder


def test_a_fingerprint_follows_lists_and_patterns(tmp_path: Path) -> None:
    for name in ("a-1.csv", "b.csv"):
        (tmp_path / name).write_text("x,y\n1,2\n")
    kinds = [DataSpec(str(tmp_path / "a-*.csv")), DataSpec((str(tmp_path / "a-1.csv"), str(tmp_path / "b.csv")))]
    before = [data_fingerprint(data) for data in kinds]
    (tmp_path / "a-2.csv").write_text("x,y\n1,2\n")
    assert [data_fingerprint(data) for data in kinds] == [data_fingerprint(kinds[0]), before[1]]
    assert data_fingerprint(kinds[0]) != before[0]
    (tmp_path / "b.csv").write_text("")
    assert data_fingerprint(kinds[1]) != before[1]


def test_data_that_airflow_cannot_see_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="rule new_data cannot look at the data"):
        data_fingerprint(DataSpec(str(tmp_path / "missing.csv")))


def test_a_fingerprint_follows_a_store(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(
        monkeypatch,
        "lake",
        conn_type="aws",
        login=KEY,
        password=HUSH,
        extra={"endpoint_url": s3_server.url, "region_name": "us-east-1"},
    )
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    s3_server.put("/prints")
    s3_server.put("/prints/a.csv", "a,y\n1,2\n")
    data = DataSpec("s3://prints", connection="lake")
    before = data_fingerprint(data)
    assert data_fingerprint(data) == before
    s3_server.put("/prints/a.csv", "a,y\n1,3\n")
    after = data_fingerprint(data)
    assert after != before
    s3_server.put("/prints/b.csv", "a,y\n1,3\n")
    assert data_fingerprint(data) != after
    with s3_server.denying(), pytest.raises(TaskError) as caught:
        data_fingerprint(data)
    assert "the store denies access" in str(caught.value.failure.why)
    assert HUSH not in str(caught.value.failure)


def test_a_table_of_the_catalog_cannot_be_looked_at_from_airflow() -> None:
    with pytest.raises(TaskError) as caught:
        data_fingerprint(DataSpec("lake.sales", format="table"))
    assert caught.value.failure.why == "it is a table of Spark's catalog, not files"


def exported(folder: Path, *params: dict[str, Any]) -> None:
    latest = folder / "s" / "latest"
    latest.mkdir(parents=True)
    (latest / "best_trials.json").write_text(json.dumps([{"params": p} for p in params]))


def test_a_warm_start_tries_the_last_exports_best_first(tmp_path: Path) -> None:
    exported(tmp_path, {"x": 0.5, "n": 2, "kind": "a"}, {"x": 0.25, "n": 3, "kind": "b"}, {"x": 0.75})
    spec = warm_started(TuningSpec("s", search_space=SPACE, enqueue=({"x": 0.1},)), str(tmp_path), 2)
    assert spec.enqueue == ({"x": 0.1}, {"x": 0.5, "n": 2, "kind": "a"}, {"x": 0.25, "n": 3, "kind": "b"})


def test_a_warm_start_drops_what_no_longer_fits(tmp_path: Path) -> None:
    exported(tmp_path, {"x": 7.0, "n": 2, "kind": "c", "gone": 1})
    assert warm_started(TuningSpec("s", search_space=SPACE), str(tmp_path), 1).enqueue == ({"n": 2},)


def test_a_warm_start_without_an_export_is_a_cold_one(tmp_path: Path) -> None:
    spec = TuningSpec("s", search_space=SPACE)
    assert warm_started(spec, str(tmp_path), 3) == spec


def test_rescoring_runs_one_trial_beside_the_study() -> None:
    spec = rescoring(TuningSpec("s", search_space=SPACE, trials=50, tasks=8, run_id="r"), {"x": 0.5})
    assert (spec.study_name, spec.trials, spec.tasks, spec.enqueue) == ("s.rescore", 1, 1, ({"x": 0.5},))


def test_trials_run_again_before_the_choices_changed_do_not_stop_the_next_one(tmp_path: Path) -> None:
    url = sqlalchemy.URL.create("sqlite", database=str(tmp_path / "study.db"))
    spec = TuningSpec("s", search_space=SPACE)
    again = rescoring(spec, {"x": 0.5})
    assert not drop_unfit_rescores(again, url)  # none was run again yet
    study = optuna.create_study(study_name=again.study_name, storage=url.render_as_string())
    study.tell(study.ask(distributions(SPACE)), 1.0)
    assert not drop_unfit_rescores(again, url)
    wider = SPACE | {"kind": ParamSpec("categorical", choices=("a", "b", "c"))}
    assert drop_unfit_rescores(rescoring(spec.with_changes(search_space=wider), {}), url)
    assert optuna.get_all_study_names(url.render_as_string()) == []


def test_a_best_trial_that_does_not_fit_any_more_is_not_run_again() -> None:
    spec = TuningSpec("s", search_space=SPACE)
    assert spec.allows({"x": 0.5, "n": 2, "kind": "a"})
    for params in ({"x": 7.0, "n": 2, "kind": "a"}, {"x": 0.5, "n": 2}, {"x": 0.5, "n": 2, "kind": "a", "gone": 1}):
        assert not spec.allows(params)
    assert TuningSpec("s", objective="own:f").allows({"anything": 1})


def test_the_rescored_value_is_this_runs() -> None:
    study = optuna.create_study()
    for run, value in (("one", 1.0), ("two", 2.0)):
        study.add_trial(optuna.create_trial(value=value, user_attrs={"run_id": run}))
    assert rescored_value(study, "one") == 1.0
    assert rescored_value(study, "three") is None


def test_better_follows_the_direction() -> None:
    assert is_better(1.0, 2.0, "minimize")
    assert not is_better(2.0, 2.0, "minimize")
    assert is_better(3.0, 2.0, "maximize")


def test_cron_and_assets_can_both_start_a_run() -> None:
    def schedule(cron: str | None, *assets: str) -> Any:
        return dag_schedule(StudySettings(study="s", schedule=cron, retune=RetuneSettings(assets=assets)))

    assert type(schedule("@daily")).__name__ == "CronTriggerTimetable"
    assert schedule("@once") == "@once"
    assert schedule(None) is None
    assert type(schedule(None, "table", "s3://b/k")).__name__ == "AssetAny"
    assert type(schedule("0 3 * * 1", "table")).__name__ == "AssetOrTimeSchedule"
    with pytest.raises(SpecError, match="schedule @once cannot be had together"):
        schedule("@once", "table")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("retune: {rule: new_data}", "retune: rule new_data needs data.path"),
        ("directions: [minimize, maximize]\nretune: {rule: drift}", "rule drift works with one direction only"),
        ("directions: [minimize, maximize]\nretune: {publish: better}", "publish better works with one direction"),
        ("retune: {drift: 0}", "retune: drift must be above 0, got 0"),
        ("retune: {warm_start: -1}", "retune: warm_start must be at least 0, got -1"),
        ("retune: {rules: drift}", "unknown key 'rules' (did you mean 'rule'?)"),
        ("pool: ''", "pool must name an Airflow pool"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(StudyFileError) as error:
        read_study(file)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("rule", "asked"),
    [("always", []), ("new_data", ["decide_retune"]), ("drift", ["rescore_best_trial", "decide_retune"])],
)
def test_the_rule_stands_before_the_study_is_touched(tmp_path: Path, rule: str, asked: list[str]) -> None:
    text = f"{QUICK_STUDY}data: {{path: table.csv}}\nretune: {{rule: {rule}}}\npool: gpus\n"
    dag = DagFolder.create(tmp_path / "dags", quick=text).bag().dags["tune_quick"]
    tasks = [task.task_id for task in dag.topological_sort()]
    assert tasks == ["provision_database", *asked, "prepare_study", "tune", "export_best_trials"]
    pooled = {task.task_id for task in dag.tasks if task.pool == "gpus"}
    assert pooled == {"tune", *(name for name in asked if name == "rescore_best_trial")}


def test_assets_of_the_study_file_schedule_the_dag(tmp_path: Path) -> None:
    text = f"{QUICK_STUDY}retune: {{assets: [table, 's3://lake/train']}}\n"
    bag = DagFolder.create(tmp_path / "dags", quick=text).bag()
    assert bag.import_errors == {}
    schedule = bag.dags["tune_quick"].schedule
    assert type(schedule).__name__ == "AssetAny"
    assert {asset.name for asset in schedule.objects} == {"table", "s3://lake/train"}
