"""The final model on its way into the export: one folder, whole or not at all, whatever is killed and tried again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from airflow.sdk import ObjectStoragePath

from optuna_spark.spec.model import ModelOrder
from tests.support.studies import study_reader
from tuning_pipeline.exports.export import export_study
from tuning_pipeline.exports.final_model import CARD, forget_kept_model, keep_model, model_of
from tuning_pipeline.exports.folders.whole_folders import publish_folder
from tuning_pipeline.exports.honest_score import score_facts
from tuning_pipeline.exports.report.model_plots import model_sections
from tuning_pipeline.runs.identity import RunIdentity
from tuning_pipeline.runs.study_run import StudyRun

STUDY = """study: prices
objective: xgboost
data: {path: sklearn:diabetes, test: 0.2}
model: {}
"""
MADE = "2026-11-28T10:00:00.000000+00:00"
MODEL_FILES = ["model.ubj", CARD]


@pytest.fixture(params=["disk", "object store"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> StudyRun:
    base = tmp_path / "exports" if request.param == "disk" else f"memory://{tmp_path.name}/exports"
    study = study_reader(tmp_path)(f"{STUDY}exports: {base}\n")
    return StudyRun(study, RunIdentity("tune_example", "r1", MADE), "resume", asked_for=True)


def finished() -> optuna.Study:
    study = optuna.create_study(study_name="prices")
    study.optimize(lambda trial: trial.suggest_float("x", 1, 2), n_trials=4)
    return study


def trained(run: StudyRun, study: optuna.Study, folder: Path, content: bytes = b"model", **card: Any) -> None:
    """What the driver leaves, kept for the export."""
    folder.mkdir(exist_ok=True)
    best = study.best_trial
    told = {
        "name": "prices",
        "run_key": run.key,
        "trial": best.number,
        "params": best.params,
        "metrics": [{"name": "value", "test": 1.75}],
        "rows": {"training": 80, "test": 20},
    }
    (folder / CARD).write_text(json.dumps(told | card))
    (folder / "model.ubj").write_bytes(content)
    keep_model(run, folder)


def exported(run: StudyRun, study: optuna.Study) -> tuple[dict[str, Any], ObjectStoragePath]:
    best = export_study(
        study,
        run.study.exports_base(),
        run.identity.run_id,
        run_key=run.key,
        facts=lambda _run: {"data": {"path": "sklearn:diabetes"}},
        model=lambda best: model_of(run, best),
        tested=True,
    )
    forget_kept_model(run)
    return best, ObjectStoragePath(run.study.exports_base()) / "prices"


def names(folder: ObjectStoragePath) -> list[str]:
    """What holds a file, at any depth: in an object store a folder that holds none is none."""

    def has_file(path: ObjectStoragePath) -> bool:
        return bool(path.is_file() or any(has_file(inside) for inside in path.iterdir()))

    return sorted(path.name for path in folder.iterdir() if has_file(path))


def test_the_export_takes_the_model_in(run: StudyRun, tmp_path: Path) -> None:
    study = finished()
    trained(run, study, tmp_path / "driver")
    best, home = exported(run, study)
    assert names(home / "r1" / "model") == MODEL_FILES
    assert names(home / "latest" / "model") == MODEL_FILES
    assert names(home) == ["latest", "r1"]
    assert best["test_values"] == [1.75]
    assert best["test_gap"] == [1.75 - study.best_value]
    assert best["model"] == {"name": "prices", "path": "model", "rows": {"training": 80, "test": 20}}
    assert best["score_note"].startswith(
        "On 20 test rows, which no trial has seen, the final model has value 1.75 (best"
    )


def test_trained_twice_it_is_one_model_the_last_one(run: StudyRun, tmp_path: Path) -> None:
    study = finished()
    trained(run, study, tmp_path / "driver", b"of a try that was killed after it")
    trained(run, study, tmp_path / "driver", b"of the next try")
    _, home = exported(run, study)
    assert names(home) == ["latest", "r1"]
    assert (home / "r1" / "model" / "model.ubj").read_bytes() == b"of the next try"


def test_an_export_that_is_made_again_keeps_the_model(run: StudyRun, tmp_path: Path) -> None:
    study = finished()
    trained(run, study, tmp_path / "driver")
    first, home = exported(run, study)
    again, _ = exported(run, study)
    assert (again["model"], again["test_values"]) == (first["model"], first["test_values"])
    assert names(home / "r1" / "model") == MODEL_FILES


def test_an_export_without_a_model_removes_that_of_an_earlier_one(run: StudyRun, tmp_path: Path) -> None:
    study = finished()
    trained(run, study, tmp_path / "driver")
    _, home = exported(run, study)
    export_study(study, run.study.exports_base(), "r1")
    assert "model" not in names(home / "r1")


@pytest.mark.parametrize("other", [{"trial": 99}, {"run_key": "r1.another"}, {"params": {"x": 0.0}}])
def test_a_model_of_another_trial_or_run_is_not_taken(other: dict[str, Any], run: StudyRun, tmp_path: Path) -> None:
    study = finished()
    trained(run, study, tmp_path / "driver", **other)
    best, home = exported(run, study)
    assert (best["model"], best["test_values"]) == (None, None)
    assert "model" not in names(home / "r1")


def test_a_disk_that_is_full_leaves_the_model_before(run: StudyRun, tmp_path: Path) -> None:
    study = finished()
    trained(run, study, tmp_path / "driver", b"before")
    kept = ObjectStoragePath(run.study.exports_base()) / "prices" / ".r1.model"
    with pytest.raises(TypeError):
        publish_folder(kept, {"model.ubj": b"new", CARD: None}, CARD)  # type: ignore[dict-item]  # fails half-way
    _, home = exported(run, study)
    assert (home / "r1" / "model" / "model.ubj").read_bytes() == b"before"


def test_an_order_crosses_as_json() -> None:
    order = ModelOrder(
        3, {"max_depth": 4, "eta": 0.25, "booster": "dart"}, (0.5, "inf"), ("rmse", "mae"), {"seed": 1}, 17
    )
    assert ModelOrder.from_json(order.to_json()) == order


@pytest.mark.parametrize(
    ("best", "tested", "note"),
    [
        ({"data": None}, False, None),
        ({"data": {}}, False, "The best value is optimistic: it is the best of 7 trials on the same rows."),
        ({"data": {}}, True, "The test rows were kept back, and no model was scored on them"),
    ],
)
def test_without_a_score_the_value_is_called_optimistic(best: dict[str, Any], tested: bool, note: str | None) -> None:
    facts = score_facts({"n_trials": 7, "values": [1.0], "metrics": ["rmse"], **best}, {}, tested)
    assert (facts["score_note"] is None) == (note is None)
    assert (note or "") in (facts["score_note"] or "")


def test_the_report_draws_what_the_model_tells() -> None:
    card = {"importances": [{"feature": f"f{i}", "value": 30.0 - i} for i in range(30)]}
    residuals = {"kind": "residuals", "prediction": [1.0, 2.0], "residual": [0.5, -0.5]}
    calibration = {"kind": "calibration", "predicted": [0.1, 0.9], "observed": [0.2, 0.8], "count": [5, 7]}
    for told, title in ((residuals, "Residuals of the test rows"), (calibration, "Calibration on the test rows")):
        files = {CARD: json.dumps(card).encode(), "test_predictions.json": json.dumps(told).encode()}
        weights, shown = model_sections(files)
        assert (weights.missing, shown.missing, shown.title) == ("", "", title)
        assert list(weights.figures[0].data[0].y)[-1] == "f0", "the first stands on top"
        assert len(weights.figures[0].data[0].y) == 20
        assert list(shown.figures[0].data[0].x) == told.get("prediction", told.get("predicted"))
    assert model_sections({}) == []
    assert model_sections({CARD: b"{}"}) == []
