"""The final model: trained on all training rows, for the best trial's rounds, and the same once it is loaded again."""

from __future__ import annotations

import importlib.metadata
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import optuna
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import xgboost

from optuna_spark.data.load import load_dataset
from optuna_spark.device import Device
from optuna_spark.errors import ModelError, SpecError
from optuna_spark.final_model.files import CARD, model_files
from optuna_spark.final_model.task import ModelTask, files_of
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.registry import build_objective, check_objective, train_model
from optuna_spark.objectives.trained_model import TrainedModel
from optuna_spark.objectives.xgboost import explained
from optuna_spark.objectives.xgboost.explained import plot_of_test
from optuna_spark.results.best import best_params
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.model import ModelOrder, ModelSpec
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec

CPU = Device("cpu", None, 1)
SPACE = {
    "learning_rate": ParamSpec("float", 0.05, 0.5),
    "max_depth": ParamSpec("int", 1, 6),
    "subsample": ParamSpec("float", 0.4, 1.0),
}
optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """600 rows in which a missing value means something; the label is last, classes in between."""
    rng = np.random.default_rng(7)
    a, b = rng.random(600), rng.random(600)
    noise = 0.1 * rng.standard_normal(600)
    holes = pa.array(b, mask=rng.random(600) < 0.2)
    kind = np.array(["low", "middle", "high"])[np.digitize(a + noise, (0.3, 0.7))]
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"a": a, "b [m2]": holes, "kind": kind, "y": 3 * a + b**2 + noise}), path)
    return path


def xgboost_spec(path: Path, section: dict[str, Any] | None = None, test: float | None = 0.25) -> TuningSpec:
    columns = {"multiclass": ["a", "b [m2]", "kind"]}.get((section or {}).get("task", ""), ["a", "b [m2]", "y"])
    chosen = path.with_name("chosen.parquet")
    pq.write_table(pq.read_table(path, columns=columns), chosen)
    return TuningSpec(
        "prices",
        objective="xgboost",
        data=DataSpec(str(chosen), test=test),
        objective_section={"num_boost_round": 60, "early_stopping_rounds": 5} | (section or {}),
        search_space=SPACE,
        model=ModelSpec(),
        seed=1,
    )


def own_spec(path: Path, model: ModelSpec, **data: Any) -> TuningSpec:
    chosen = path.with_name("chosen.parquet")
    pq.write_table(pq.read_table(path, columns=["a", "y"]), chosen)
    return TuningSpec(
        "line",
        objective="final_objective:objective",
        data=DataSpec(str(chosen), **{"test": 0.25} | data),
        search_space={"slope": ParamSpec("float", 0, 4)},
        model=model,
    )


def order_of(spec: TuningSpec, n_trials: int = 4) -> ModelOrder:
    """The order of the best of a few trials, as Airflow makes it from the study."""
    objective = build_objective(ObjectiveContext(spec, CPU))
    study = optuna.create_study(
        study_name=spec.study_name, directions=spec.directions, sampler=optuna.samplers.RandomSampler(seed=1)
    )
    study.optimize(objective, n_trials=n_trials)
    best = best_params(study, "run")
    about = {"run_id": "run", "data": {"fingerprint": "f1"}}
    values, metrics = tuple(best["values"]), tuple(best["metrics"])
    return ModelOrder(best["trial"], best["params"], values, metrics, best["fixed"], best["rounds"], about)


def booster_of(model: TrainedModel) -> xgboost.Booster:
    booster = xgboost.Booster()
    booster.load_model(bytearray(model.content))
    return booster


def trained(spec: TuningSpec, order: ModelOrder) -> TrainedModel:
    return train_model(ObjectiveContext(spec, CPU), order)


# --- rounds and rows


@pytest.mark.parametrize("section", [{}, {"folds": 3}])
def test_it_has_the_rounds_that_early_stopping_found(section: dict[str, Any], table: Path) -> None:
    """The best iteration of the trial, from 1; with folds that of their mean."""
    spec = xgboost_spec(table, section)
    objective = build_objective(ObjectiveContext(spec, CPU))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(objective, n_trials=4)
    attrs = study.best_trial.user_attrs
    assert attrs["best_iteration"] + 1 < attrs["rounds"]
    model = trained(spec, order_of(spec))
    assert booster_of(model).num_boosted_rounds() == model.rounds == attrs["best_iteration"] + 1


def test_tuned_rounds_are_not_given_to_the_booster_as_a_parameter(table: Path) -> None:
    spec = xgboost_spec(table, {"early_stopping_rounds": None})
    spec = spec.with_changes(search_space={"num_boost_round": ParamSpec("int", 5, 9)})
    order = order_of(spec)
    assert booster_of(trained(spec, order)).num_boosted_rounds() == order.params["num_boost_round"] == order.rounds


def test_it_is_trained_on_all_training_rows_and_on_no_test_row(table: Path) -> None:
    spec = xgboost_spec(table)
    order = order_of(spec)
    model, data = trained(spec, order), load_dataset(spec.data, "regression", CPU)  # type: ignore[arg-type]  # it has data
    rows = np.flatnonzero(~data.test)  # type: ignore[operator]  # it has test rows
    assert (model.rows, model.test_rows) == (len(rows), 600 - len(rows))
    train = xgboost.QuantileDMatrix(data.features[rows], data.labels.values[rows], nthread=1)
    params = {"tree_method": "hist", "nthread": 1, "seed": 1, "objective": "reg:squarederror", **order.params}
    expected = xgboost.train(params, train, order.rounds)
    matrix = xgboost.DMatrix(data.features)
    loaded = booster_of(model)
    assert loaded.predict(matrix).tobytes() == expected.predict(matrix).tobytes()


def test_the_test_score_is_of_the_test_rows(table: Path) -> None:
    spec = xgboost_spec(table)
    model, data = trained(spec, order_of(spec)), load_dataset(spec.data, "regression", CPU)  # type: ignore[arg-type]
    assert data.test is not None
    missed = booster_of(model).predict(xgboost.DMatrix(data.features[data.test])) - data.labels.values[data.test]
    assert model.test_values is not None
    assert model.test_values[0] == pytest.approx(float(np.sqrt(np.mean(missed**2))), rel=1e-5)


def test_without_test_rows_all_rows_train_and_there_is_no_score(table: Path) -> None:
    spec = xgboost_spec(table, test=None)
    model = trained(spec, order_of(spec))
    assert (model.rows, model.test_rows, model.test_values) == (600, 0, None)


def test_categories_travel_with_a_model_whose_names_xgboost_refuses(table: Path) -> None:
    spec = xgboost_spec(table)
    pq.write_table(pq.read_table(table, columns=["b [m2]", "kind", "y"]), table.with_name("chosen.parquet"))
    booster = booster_of(trained(spec, order_of(spec)))
    assert (booster.feature_names, booster.feature_types) == (None, ["q", "c"])
    assert json.loads(files(spec, order_of(spec))[CARD])["categories"] == {"kind": ["high", "low", "middle"]}


def test_categories_travel_with_the_model(table: Path) -> None:
    spec = xgboost_spec(table)
    chosen = table.with_name("chosen.parquet")
    pq.write_table(pq.read_table(table, columns=["a", "kind", "y"]), chosen)
    model, data = trained(spec, order_of(spec)), load_dataset(spec.data, "regression", CPU)  # type: ignore[arg-type]
    card = json.loads(files(spec, order_of(spec))[CARD])
    assert card["categories"] == {"kind": ["high", "low", "middle"]}
    assert [kind for _, kind in model.features] == ["float32", "category"]
    booster = booster_of(model)
    assert booster.feature_types == ["q", "c"]
    assert data.test is not None
    rows = xgboost.DMatrix(
        data.features[data.test], feature_names=["a", "kind"], feature_types=["q", "c"], enable_categorical=True
    )
    missed = booster.predict(rows) - data.labels.values[data.test]
    assert model.test_values is not None
    assert model.test_values[0] == pytest.approx(float(np.sqrt(np.mean(missed**2))), rel=1e-5)


# --- what is in the folder


def files(spec: TuningSpec, order: ModelOrder) -> dict[str, bytes]:
    return files_of(ModelTask(spec.to_json(), order.to_json())(None, None))


def test_the_card_says_what_the_model_is(table: Path) -> None:
    spec = xgboost_spec(table, {"task": "multiclass", "metric": "mlogloss"})
    order = order_of(spec)
    found = files(spec, order)
    card = json.loads(found[CARD])
    assert card["features"] == [{"name": "a", "type": "float32"}, {"name": "b [m2]", "type": "float32"}]
    assert card["classes"] == ["high", "low", "middle"]
    assert card["fixed"]["num_class"] == 3
    assert card["params"] == order.params
    assert card["rounds"] == order.rounds
    (metric,) = card["metrics"]
    assert (metric["name"], metric["direction"], metric["validation"]) == ("value", "minimize", order.values[0])
    assert 0 < metric["test"] < 1
    assert (card["study"], card["run_id"], card["trial"]) == ("prices", "run", order.trial)
    assert card["data"] == {"fingerprint": "f1"}
    assert card["rows"]["training"] + card["rows"]["test"] == 600
    assert card["versions"]["xgboost"] == xgboost.__version__
    example = json.loads(found["input_example.json"])
    assert example["columns"] == ["a", "b [m2]"]
    assert len(example["data"]) == 5


def test_a_path_from_the_form_puts_no_row_of_its_file_into_the_export(table: Path) -> None:
    spec = xgboost_spec(table)
    assert spec.data is not None
    hidden = spec.with_changes(data=DataSpec(spec.data.path, test=0.25, names_in_errors=False))
    order = order_of(spec)
    shown = {"input_example.json", "test_predictions.json"}
    assert shown <= set(files(spec, order))
    assert not shown & set(files(hidden, order))


LOADS = """
import sys, json
import numpy as np
rows = np.load(sys.argv[1])
if sys.argv[2].endswith(".ubj"):
    import xgboost
    booster = xgboost.Booster(model_file=sys.argv[2])
    found = booster.predict(xgboost.DMatrix(rows, feature_names=booster.feature_names))
else:
    import joblib
    found = joblib.load(sys.argv[2]).predict(rows)
np.save(sys.argv[3], found)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def only(requirements: str, folder: Path) -> Path:
    """A folder of packages with just these distributions and what they require."""
    folder.mkdir()
    wanted = [line.partition("==")[0] for line in requirements.splitlines()]
    done: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in done:
            continue
        done.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform
        tops = {Path(str(file)).parts[0] for file in found.files or () if ".." not in str(file)}
        for top in tops:
            if not (folder / top).exists():
                (folder / top).symlink_to(str(found.locate_file(top)))
        wanted += [
            re.split(r"[^A-Za-z0-9_.-]", line, maxsplit=1)[0] for line in found.requires or () if "extra ==" not in line
        ]
    return folder


def loaded_elsewhere(found: dict[str, bytes], rows: np.ndarray[Any, Any], folder: Path) -> np.ndarray[Any, Any]:
    """Predictions of the model in a process that can import its requirements and the standard library only."""
    name = next(name for name in found if name.startswith("model."))
    for file, content in found.items():
        (folder / file).write_bytes(content)
    np.save(folder / "rows.npy", rows)
    packages = only(found["requirements.txt"].decode(), folder / "packages")
    # -S: no site-packages; -I: nothing of the environment.
    program = f"import sys; sys.path.append({str(packages)!r})\n{LOADS}"
    arguments = [str(folder / "rows.npy"), str(folder / name), str(folder / "found.npy")]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not {"optuna", "pyarrow", "pyspark", "optuna_spark"} & set(json.loads(done.stdout))
    return np.asarray(np.load(folder / "found.npy"))


@pytest.mark.parametrize("section", [{}, {"task": "multiclass", "metric": "mlogloss"}])
def test_loaded_with_its_requirements_alone_it_predicts_the_same_bits(
    section: dict[str, Any], table: Path, tmp_path: Path
) -> None:
    spec = xgboost_spec(table, section)
    model = trained(spec, order := order_of(spec))
    data = load_dataset(spec.data, section.get("task", "regression"), CPU)  # type: ignore[arg-type]  # it has data
    booster = booster_of(model)
    expected = booster.predict(xgboost.DMatrix(data.features, feature_names=booster.feature_names))
    assert np.ptp(expected) > 0
    found = loaded_elsewhere(model_files(model, spec, order), data.features, tmp_path)
    assert found.tobytes() == expected.tobytes()


# --- what the report draws


def test_the_features_that_the_label_is_made_of_weigh_most(table: Path) -> None:
    model = trained(spec := xgboost_spec(table), order_of(spec))
    assert list(model.importances) == ["a", "b [m2]"]  # y = 3 a + b ** 2 + noise
    assert model.importances["a"] > 2 * model.importances["b [m2]"] > 0


def test_residuals_are_label_minus_prediction(table: Path) -> None:
    model = trained(spec := xgboost_spec(table), order_of(spec))
    assert model.test_plot["kind"] == "residuals"
    assert len(model.test_plot["residual"]) == model.test_rows
    assert model.test_values is not None
    assert np.sqrt(np.mean(np.square(model.test_plot["residual"]))) == pytest.approx(model.test_values[0], rel=1e-4)


def test_calibration_is_the_share_of_each_tenth_of_probabilities() -> None:
    said = np.array([0.05, 0.05, 0.95, 0.95, 0.95], np.float32)
    so = np.array([0, 1, 1, 1, 0], np.float32)
    found = plot_of_test(said, so, 2)
    assert (found["kind"], found["count"]) == ("calibration", [2, 3])
    assert found["predicted"] == pytest.approx([0.05, 0.95])
    assert found["observed"] == pytest.approx([1 / 2, 2 / 3])
    several = plot_of_test(np.array([[0.95, 0.05, 0.0]], np.float32), np.array([0], np.float32), 3)
    assert (several["count"], several["observed"]) == ([2, 1], [0.0, 1.0])
    assert plot_of_test(np.array([0.0, 2.0, 1.0], np.float32), np.array([0, 2, 1], np.float32), 3) == {}


def test_a_long_model_is_explained_within_a_limit_of_time(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = xgboost_spec(table)
    order = order_of(spec)
    asked: list[int] = []
    predict = xgboost.Booster.predict

    def counted(self: xgboost.Booster, rows: xgboost.DMatrix, **options: Any) -> Any:
        asked.append(rows.num_row() if options.get("pred_contribs") else 0)
        return predict(self, rows, **options)

    monkeypatch.setattr(explained, "SHAP_S", -1.0)
    monkeypatch.setattr(xgboost.Booster, "predict", counted)
    assert trained(spec, order).importances
    assert sum(asked) == explained.CHUNK


# --- an objective of one's own


def test_ones_own_model_is_trained_scored_and_saved(table: Path) -> None:
    spec = own_spec(table, ModelSpec(name="line-1", train="final_objective:train", score="final_objective:score"))
    order = order_of(spec)
    found = files(spec, order)
    model, card = joblib.load(io.BytesIO(found["model.joblib"])), json.loads(found[CARD])
    assert model.slope == order.params["slope"]
    assert (card["name"], card["modules"]) == ("line-1", ["final_objective"])
    assert card["features"] == [{"name": "a", "type": "double"}, {"name": "y", "type": "double"}]
    assert 0.2 * 600 < card["rows"]["test"] < 0.3 * 600
    assert card["metrics"][0]["test"] == pytest.approx(card["metrics"][0]["validation"], rel=0.5)
    assert set(found["requirements.txt"].decode().split()) == {
        f"{name}=={importlib.metadata.version(name)}" for name in ("joblib", "numpy")
    }


def test_ones_own_training_may_take_a_context_that_has_no_test_rows_either(table: Path) -> None:
    spec = own_spec(table, ModelSpec(train="final_objective:train_with_context"))
    found = files(spec, order := order_of(spec))
    model = joblib.load(io.BytesIO(found["model.joblib"]))
    assert model["rows"] == model["seen"] < 600
    assert (model["device"], model["slope"]) == ("cpu", order.params["slope"])


def test_an_estimator_of_scikit_learns_names_its_package_and_predicts_the_same(table: Path, tmp_path: Path) -> None:
    spec = own_spec(table, ModelSpec(train="final_objective:train_tree"))
    order = order_of(spec)
    model = trained(spec, order)
    assert model.packages == ("joblib", "numpy", "scikit-learn")
    rows = np.linspace(0, 1, 50).reshape(-1, 1)
    expected = joblib.load(io.BytesIO(model.content)).predict(rows)
    assert loaded_elsewhere(model_files(model, spec, order), rows, tmp_path).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("train", "score", "said"),
    [
        ("train_nothing", None, "final_objective:train_nothing failed: RuntimeError"),
        ("train_unsavable", None, "joblib cannot save the model, a function"),
        ("train", "score_text", r"must return 1 number\(s\), got str"),
    ],
)
def test_a_function_that_does_not_do_its_part_is_told(train: str, score: str | None, said: str, table: Path) -> None:
    model = ModelSpec(train=f"final_objective:{train}", score=f"final_objective:{score}" if score else None)
    with pytest.raises(ModelError, match=said):
        files(own_spec(table, model), ModelOrder(0, {"slope": 1.0}, (1.0,), ("value",)))


@pytest.mark.parametrize(
    ("objective", "model", "said"),
    [
        ("quadratic", ModelSpec(), "objective quadratic makes no model; remove model"),
        ("final_objective:objective", ModelSpec(), "model.train is required with an objective of your own"),
        (
            "final_objective:objective",
            ModelSpec(train="other:train"),
            "must be in the module or package 'final_objective'",
        ),
        (
            "final_objective:objective",
            ModelSpec(train="final_objective:train", score="final_objective:score"),
            "model.score needs test rows",
        ),
    ],
)
def test_a_model_section_that_means_nothing_is_refused(objective: str, model: ModelSpec, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        check_objective(TuningSpec("s", objective=objective, model=model))


def test_xgboost_trains_its_model_itself(table: Path) -> None:
    with pytest.raises(SpecError, match=r"model\.train and model\.score are for objectives of your own"):
        check_objective(xgboost_spec(table).with_changes(model=ModelSpec(train="final_objective:train")))
