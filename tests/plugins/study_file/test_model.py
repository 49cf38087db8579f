"""What a study file says of its final model and its test rows, as far as it is known before a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.studies import study_reader
from tuning_pipeline.dags import tuning_dag
from tuning_pipeline.study_file.form import all_fields
from tuning_pipeline.study_file.study_file import StudyFileError

XGBOOST = "objective: xgboost\ndata: {path: sklearn:diabetes, test: 0.2}\n"
OWN = 'objective: line:objective\ndata: {path: sklearn:diabetes, test: 0.2}\nmodel: {train: "line:%s"%s}\n'
LINE = "def objective(trial): ...\ndef train(params, data): ...\ndef score(model, data): ...\n"
DATABRICKS = "target: databricks\ndatabricks: {files: /Volumes/a/b/c, cluster: {node_type: n}}\n"


def test_the_task_is_there_only_for_a_study_that_wants_a_model(tmp_path: Path) -> None:
    read = study_reader(tmp_path)
    for text, there in (("model: {}\n", True), ("model: {refit: false}\n", False), ("", False)):
        dag = tuning_dag(read(XGBOOST + text))
        assert ("train_final_model" in dag.task_ids) == there
        (before,) = dag.get_task("export_best_trials").upstream_task_ids
        assert before == ("train_final_model" if there else "tune")


def test_a_run_has_time_for_both_long_tasks(tmp_path: Path) -> None:
    read = study_reader(tmp_path)
    times = [
        tuning_dag(read(f"{XGBOOST}retries: 0\nexecution_timeout_s: 100\n{text}")).dagrun_timeout
        for text in ("", "model: {}\n")
    ]
    assert [time.total_seconds() for time in times if time] == [3700, 3800]


def test_the_model_crosses_to_the_cluster(tmp_path: Path) -> None:
    spec = study_reader(tmp_path)(f"{XGBOOST}model: {{name: prices}}\n").to_spec("r")
    assert spec.model is not None
    assert spec.data is not None
    assert (spec.model.name, spec.data.test) == ("prices", 0.2)


def test_no_form_can_set_them() -> None:
    assert not [field.key for field in all_fields() if field.key.startswith(("model", "data.test"))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{DATABRICKS}{XGBOOST}model: {{}}\n", "model.refit is for target standalone so far"),
        ("model: {}\n", "objective quadratic makes no model"),
        (f"{XGBOOST}model: {{name: a b}}\n", "name must be a name, got 'a b'"),
        (f"{XGBOOST}model: {{train: line}}\n", "train must be module:function, got 'line'"),
        (f"{XGBOOST}model: {{promote: better}}\n", "unknown key 'promote'"),
        (OWN % ("trian", ""), r"model\.train: line\.py has no function 'trian': did you mean 'train'\?"),
        (OWN % ("train", ', score: "line:scor"'), r"model\.score: line\.py has no function 'scor'"),
    ],
)
def test_what_cannot_work_is_told_when_the_file_is_read(text: str, said: str, tmp_path: Path) -> None:
    read = study_reader(tmp_path)
    read("objective: quadratic\n")  # makes the folder
    (tmp_path / "dags" / "studies" / "line.py").write_text(LINE)
    with pytest.raises(StudyFileError, match=said):
        read(text)


def test_databricks_may_keep_test_rows_back(tmp_path: Path) -> None:
    assert study_reader(tmp_path)(f"{DATABRICKS}{XGBOOST}").settings.model is None
