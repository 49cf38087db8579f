"""Real XGBoost under plain Optuna studies: what a trial returns, records, keeps and frees."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from init.local.layout import REPOSITORY
from optuna_spark.data.load import forget_datasets, from_table, load_dataset
from optuna_spark.data.split import split
from optuna_spark.device import Device, require_cuda
from optuna_spark.errors import DataError, DeviceError
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.registry import build_objective
from optuna_spark.objectives.xgboost import matrices as matrices_module
from optuna_spark.objectives.xgboost import params as xgboost_params
from optuna_spark.objectives.xgboost.matrices import KEPT, Matrices, sets_to_keep
from optuna_spark.objectives.xgboost.objective import is_out_of_memory, trained_on
from optuna_spark.spec.data import DataSpec, TestColumn
from optuna_spark.spec.sections import ComponentSpec, ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from tests.support.documents import undescribed

CPU = Device("cpu", None, 1)
WINE = REPOSITORY.parent / "shared" / "data" / "winequality-red.csv"
DIABETES = DataSpec("sklearn:diabetes")
MEDIAN = ComponentSpec("MedianPruner", {"n_startup_trials": 2})
optuna.logging.set_verbosity(optuna.logging.WARNING)


def make_spec(
    xgb: dict[str, Any] | None = None, *, data: DataSpec = DIABETES, directions: Any = ("minimize",), **changes: Any
) -> TuningSpec:
    settings = {"num_boost_round": 30} | (xgb or {})
    changes = {"seed": 1} | changes
    return TuningSpec("s", objective="xgboost", directions=directions, data=data, objective_section=settings, **changes)


def make_objective(spec: TuningSpec, table: pa.Table | None = None) -> Any:
    return build_objective(ObjectiveContext(spec, CPU, table))


def optimize(spec: TuningSpec, n_trials: int = 3, pruner: Any = None) -> list[FrozenTrial]:
    sampler = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(directions=spec.directions, sampler=sampler, pruner=pruner)
    study.optimize(make_objective(spec), n_trials=n_trials)
    return study.trials


def values(spec: TuningSpec, n_trials: int = 3) -> list[float]:
    return [trial.values[0] for trial in optimize(spec, n_trials)]


def wine(**changes: Any) -> DataSpec:
    if not WINE.exists():
        pytest.skip(f"no {WINE}")
    return DataSpec(str(WINE), separator=";", **changes)


# --- test rows


@pytest.mark.parametrize("spark_read_it", [False, True])
@pytest.mark.parametrize("section", [{}, {"folds": 3}, {"early_stopping_rounds": 5}])
def test_nothing_in_the_test_rows_changes_a_trial(section: dict[str, Any], spark_read_it: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    columns = {"a": rng.random(300).astype(np.float32), "b": rng.random(300).astype(np.float32)}
    label = columns["a"] + 0.1 * rng.random(300)
    found = []
    for poison in (0.0, 1e6):
        path = tmp_path / f"{poison}.parquet"
        data = DataSpec(str(path), test=0.3)
        test = from_table(pa.table({**columns, "y": label}), data, "regression", None, CPU).test
        assert test is not None
        table = pa.table({**columns, "y": np.where(test, label + poison, label)})
        pq.write_table(table, path)
        objective = make_objective(make_spec(section, data=data), table if spark_read_it else None)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        study.optimize(objective, n_trials=3)
        found.append([trial.value for trial in study.trials])
    assert found[0] == found[1]


def test_a_metric_of_all_classes_needs_them_in_the_test_rows_too() -> None:
    held = [True, True, *[False] * 28]
    table = pa.table({"held": held, "a": np.arange(30.0), "y": [0] * 2 + [0, 1] * 14})
    spec = make_spec({"task": "binary", "metric": "auc"}, directions=("maximize",))
    with pytest.raises(DataError, match="auc needs every class in the test rows, got 1 of 2"):
        make_objective(spec.with_changes(data=DataSpec("t", test=TestColumn("held"))), table)


# --- values


def test_the_value_is_what_xgboost_itself_reports() -> None:
    spec = make_spec({"fixed": {"max_depth": 3}}, search_space={"eta": ParamSpec("float", 0.1, 0.5)})
    value = make_objective(spec)(FixedTrial({"eta": 0.2}))
    data = load_dataset(DIABETES, "regression", CPU)
    (part,) = split(data, 0.2, None, 1)
    train = xgboost.QuantileDMatrix(data.features[part.train], data.labels.values[part.train])
    booster = xgboost.train({"eta": 0.2, "max_depth": 3, "seed": 1}, train, 30)
    errors = booster.predict(xgboost.DMatrix(data.features[part.validation])) - data.labels.values[part.validation]
    assert value == pytest.approx(float(np.sqrt(np.mean(errors**2))), rel=1e-6)


def test_a_study_is_the_same_every_time() -> None:
    first, second = optimize(make_spec()), optimize(make_spec())
    assert [trial.values for trial in first] == [trial.values for trial in second]


def test_another_seed_is_another_split() -> None:
    assert optimize(make_spec(), 1)[0].value != optimize(make_spec(seed=2), 1)[0].value


def test_the_default_search_space_beats_the_mean() -> None:
    assert min(values(make_spec({"num_boost_round": 300}), 20)) < 60  # the labels' standard deviation is 77


def test_folds_give_the_mean_over_the_folds() -> None:
    spec = make_spec({"folds": 4}, search_space={"max_depth": ParamSpec("int", 1, 9)})
    value = make_objective(spec)(FixedTrial({"max_depth": 2}))
    data = load_dataset(DIABETES, "regression", CPU)
    scores = []
    for part in split(data, 0.2, 4, 1):
        train = xgboost.QuantileDMatrix(data.features[part.train], data.labels.values[part.train])
        check = xgboost.DMatrix(data.features[part.validation], data.labels.values[part.validation])
        booster = xgboost.train({"max_depth": 2, "seed": 1}, train, 30)
        scores.append(float(booster.eval(check).rpartition(":")[2]))
    assert value == pytest.approx(np.mean(scores), rel=1e-6)


def test_binary_with_auc() -> None:
    data = DataSpec("sklearn:breast_cancer")
    spec = make_spec({"task": "binary", "metric": "auc"}, data=data, directions=("maximize",))
    assert all(value > 0.9 for value in values(spec))


def test_multiclass_on_the_wine_table() -> None:
    spec = make_spec({"task": "multiclass", "metric": "merror"}, data=wine(label="quality"))
    assert all(0.2 < value < 0.6 for value in values(spec))


def test_two_metrics_for_two_directions() -> None:
    data = DataSpec("sklearn:wine")
    settings = {"task": "multiclass", "metric": ("mlogloss", "auc"), "folds": 3}
    trials = optimize(make_spec(settings, data=data, directions=("minimize", "maximize"), pruner=MEDIAN))
    assert max(trial.values[1] for trial in trials) > 0.9
    assert not any(trial.intermediate_values for trial in trials)


def test_text_classes_and_missing_features_train() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(200)
    y = np.where(x > 0.5, "up", "down")
    table = pa.table({"x": pa.array(np.where(x < 0.1, np.nan, x)), "y": y})
    spec = make_spec({"task": "binary"}, data=DataSpec("from spark"))
    value = make_objective(spec, table)(FixedTrial({**TYPICAL, "min_child_weight": 1}))
    assert value < 0.5


TYPICAL = {
    "learning_rate": 0.1,
    "max_depth": 4,
    "subsample": 1.0,
    "colsample_bytree": 1.0,
    "min_child_weight": 2,
    "max_bin": 64,
}

# --- rounds


def test_without_early_stopping_the_last_round_counts() -> None:
    (trial,) = optimize(make_spec({"num_boost_round": 25}), 1)
    attrs = trial.user_attrs
    assert (attrs["rounds"], attrs["rounds_saved"], attrs["best_iteration"]) == (25, 0, 24)
    assert attrs["device"] == "cpu"
    assert 0 < attrs["train_s"] < 60
    assert not undescribed(attrs, "trials and best_trials, as tables")


def test_early_stopping_keeps_the_best_round_as_xgboost_does() -> None:
    settings = {"num_boost_round": 500, "early_stopping_rounds": 7}
    spec = make_spec(settings, search_space={"eta": ParamSpec("float", 0.1, 0.9)})
    study = optuna.create_study()
    study.enqueue_trial({"eta": 0.5})
    study.optimize(make_objective(spec), n_trials=1)
    data = load_dataset(DIABETES, "regression", CPU)
    (part,) = split(data, 0.2, None, 1)
    train = xgboost.QuantileDMatrix(data.features[part.train], data.labels.values[part.train])
    check = xgboost.QuantileDMatrix(data.features[part.validation], data.labels.values[part.validation], ref=train)
    params = {"eta": 0.5, "seed": 1}
    booster = xgboost.train(params, train, 500, evals=[(check, "v")], early_stopping_rounds=7, verbose_eval=False)
    attrs = study.trials[0].user_attrs
    assert study.trials[0].value == pytest.approx(booster.best_score)
    assert attrs["best_iteration"] == booster.best_iteration
    assert attrs["rounds"] == booster.num_boosted_rounds()
    assert attrs["rounds"] + attrs["rounds_saved"] == 500


def test_early_stopping_follows_the_first_of_several_metrics() -> None:
    settings = {"metric": ("rmse", "mae"), "num_boost_round": 500, "early_stopping_rounds": 5}
    (trial,) = optimize(make_spec(settings, directions=("minimize", "minimize")), 1)
    assert trial.user_attrs["rounds"] - trial.user_attrs["best_iteration"] - 1 == 5 or (
        trial.user_attrs["rounds"] == 500
    )


def test_rounds_and_patience_can_be_tuned() -> None:
    space = {"num_boost_round": ParamSpec("int", 3, 5), "early_stopping_rounds": ParamSpec("int", 1, 2)}
    for trial in optimize(make_spec(search_space=space), 5):
        assert trial.user_attrs["rounds"] <= trial.params["num_boost_round"] <= 5


def test_a_pruner_sees_the_first_metric_every_so_many_rounds() -> None:
    trials = optimize(make_spec({"report_every": 7}, pruner=MEDIAN), 1, optuna.pruners.MedianPruner())
    assert list(trials[0].intermediate_values) == [7, 14, 21, 28]


def test_without_a_pruner_nothing_is_reported() -> None:
    assert not optimize(make_spec(), 1)[0].intermediate_values


@pytest.mark.parametrize("folds", [None, 3])
def test_a_pruned_trial_saves_rounds_and_says_how_many(folds: int | None) -> None:
    spec = make_spec({"num_boost_round": 100, "folds": folds}, pruner=MEDIAN)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2)
    pruned = [t for t in optimize(spec, 12, pruner) if t.state == TrialState.PRUNED]
    assert pruned
    for trial in pruned:
        assert trial.user_attrs["rounds"] < 100
        assert trial.user_attrs["rounds"] + trial.user_attrs["rounds_saved"] == 100
        assert max(trial.intermediate_values) == trial.user_attrs["rounds"]


# --- parameters against the installed XGBoost

VALUES: dict[str, Any] = {
    "booster": "gbtree", "objective": "reg:squarederror", "tree_method": "hist", "grow_policy": "lossguide",
    "sampling_method": "uniform", "multi_strategy": "one_output_per_tree", "monotone_constraints": "(0,0)",
    "interaction_constraints": "[[0, 1]]", "sample_type": "weighted", "normalize_type": "forest",
    "base_score": 0.5, "max_bin": 256, "subsample": 0.5, "tweedie_variance_power": 1.5, "quantile_alpha": 0.5,
    "seed_per_iteration": True, "one_drop": True, "verbosity": 1,
}  # fmt: skip


def ignored_by_xgboost(params: dict[str, Any]) -> bool:
    rng = np.random.default_rng(0)
    train = xgboost.QuantileDMatrix(rng.random((60, 2)), rng.integers(0, 2, 60))
    if params.get("objective") == "reg:gamma":
        train.set_label(np.full(60, 0.5))
    if str(params.get("objective")).startswith("multi:"):
        params = params | {"num_class": 2}
    booster = xgboost.Booster(xgboost_params.typed(params) | {"validate_parameters": True}, [train])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        booster.update(train, 0)
    return any("are not used" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("name", sorted((xgboost_params.TREE - xgboost_params.ENGINE) | set(xgboost_params.ALIASES)))
def test_xgboost_reads_every_accepted_parameter(name: str) -> None:
    assert not ignored_by_xgboost({name: VALUES.get(name, 1)})


@pytest.mark.parametrize("name", sorted(xgboost_params.DART))
def test_booster_dart_reads_its_own_parameters(name: str) -> None:
    assert not ignored_by_xgboost({"booster": "dart", name: VALUES.get(name, 0.1)})
    assert ignored_by_xgboost({name: VALUES.get(name, 0.1)})


@pytest.mark.parametrize(
    ("name", "objective"), sorted((n, o) for n, objectives in xgboost_params.BY_OBJECTIVE.items() for o in objectives)
)
def test_an_objective_reads_its_own_parameters(name: str, objective: str) -> None:
    params = {"objective": objective, name: VALUES.get(name, 1)}
    assert not ignored_by_xgboost(params)


@pytest.mark.parametrize("name", sorted(set(xgboost_params.INSTEAD) | {"predictor", "nthreads"}))
def test_xgboost_ignores_what_is_refused(name: str) -> None:
    assert ignored_by_xgboost({name: 1})


@pytest.mark.parametrize("objective", [o for objectives in xgboost_params.OBJECTIVES.values() for o in objectives])
def test_every_training_objective_exists(objective: str) -> None:
    extra = {"quantile_alpha": 0.5} if objective == "reg:quantileerror" else {}
    assert not ignored_by_xgboost({"objective": objective, **extra})


def test_ints_reach_xgboost_as_ints() -> None:
    space = {
        "max_depth": ParamSpec("int", 2, 4),
        "max_bin": ParamSpec("int", 32, 64, step=16),
        "max_leaves": ParamSpec("categorical", choices=(8.0, None)),
    }
    trials = optimize(make_spec({"fixed": {"num_parallel_tree": 2.0}}, search_space=space), 6)
    assert all(isinstance(trial.params["max_depth"], int) for trial in trials)
    assert all(trial.state == TrialState.COMPLETE for trial in trials)


# --- memory


def test_matrices_are_quantised_once_and_only_a_few_kept() -> None:
    data = load_dataset(DIABETES, "regression", CPU)
    matrices = Matrices(data, split(data, 0.2, None, 1), CPU)
    assert matrices.folds(64) is matrices.folds(64)
    first = matrices.folds(32)
    for max_bin in range(33, 33 + KEPT):
        matrices.folds(max_bin)
    assert matrices.folds(32) is not first


def test_a_matrix_made_block_by_block_is_the_one_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset(DIABETES, "regression", CPU)
    part = split(data, 0.2, None, 1)[0]
    whole = xgboost.QuantileDMatrix(data.features[part.train], label=data.labels.values[part.train], max_bin=16)
    monkeypatch.setattr(matrices_module, "BLOCK_ROWS", 50)
    (fold,) = Matrices(data, [part], CPU).folds(16)
    models = [xgboost.train({"max_bin": 16, "nthread": 1}, matrix, 5).save_raw() for matrix in (whole, fold.train)]
    assert models[0] == models[1]
    np.testing.assert_array_equal(fold.train.get_quantile_cut()[1], whole.get_quantile_cut()[1])
    np.testing.assert_array_equal(fold.validation.get_label(), data.labels.values[part.validation])


def test_folds_of_a_large_table_are_kept_for_fewer_values_of_max_bin() -> None:
    gib = 1 << 30
    assert [sets_to_keep(gib, folds) for folds in (1, 2, 5, 10)] == [4, 2, 1, 1]
    assert sets_to_keep(1 << 20, 10) == KEPT


def test_a_second_task_in_the_same_process_finds_the_matrices() -> None:
    def matrices() -> Matrices:
        data = load_dataset(DIABETES, "regression", CPU)
        return matrices_module.matrices_for(data, CPU, 0.2, None, 1)

    assert matrices() is matrices()
    before = matrices()
    forget_datasets()
    assert matrices() is before


def test_out_of_memory_fails_the_trial_and_frees_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(search_space={"max_bin": ParamSpec("int", 64, 256)})
    objective = make_objective(spec)
    kept = matrices_module.matrices_for(load_dataset(DIABETES, "regression", CPU), CPU, 0.2, None, 1)
    first = kept.folds(64)

    def full(*_: object) -> None:
        raise xgboost.core.XGBoostError("Memory allocation error on worker 0: cudaErrorMemoryAllocation")

    study = optuna.create_study()
    study.enqueue_trial({"max_bin": 64})
    study.enqueue_trial({"max_bin": 64})
    with monkeypatch.context() as patch:
        patch.setattr(xgboost.Booster, "update", full)
        study.optimize(objective, n_trials=1, catch=MemoryError)
    study.optimize(objective, n_trials=1)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert kept.folds(64) is not first


def test_other_errors_of_xgboost_are_passed_on() -> None:
    space = {"subsample": ParamSpec("float", 2.0, 3.0)}
    with pytest.raises(xgboost.core.XGBoostError, match="subsample"):
        make_objective(make_spec(search_space=space))(FixedTrial({"subsample": 2.5}))
    assert not is_out_of_memory(ValueError("wrong"))


# --- data and device


def test_auc_needs_every_class_among_the_validation_rows() -> None:
    y = np.zeros(60)
    y[:2] = 1
    table = pa.table({"x": np.arange(60.0), "y": y})
    settings = {"task": "binary", "metric": "auc", "folds": 10}
    spec = make_spec(settings, data=DataSpec("from spark"), directions=("maximize",))
    with pytest.raises(DataError, match="auc needs every class in the validation rows, got 1 of 2"):
        make_objective(spec, table)


def test_a_gpu_that_is_not_there_stops_the_objective_before_any_trial() -> None:
    device = Device("cuda", 0, 1)
    try:
        require_cuda(device)
    except DeviceError:
        with pytest.raises(DeviceError, match="cuda:0 was given but"):
            build_objective(ObjectiveContext(make_spec(), device))
    else:
        pytest.skip("this machine has a GPU")


def test_training_that_fell_back_to_the_cpu_is_noticed() -> None:
    train = xgboost.QuantileDMatrix(np.eye(8), np.arange(8))
    booster = xgboost.Booster({"device": "cpu"}, [train])
    booster.update(train, 0)
    assert json.loads(booster.save_config())["learner"]["generic_param"]["device"] == "cpu"
    assert trained_on(booster, CPU) == "cpu"
    with pytest.raises(DeviceError, match="XGBoost trained on cpu instead of cuda:0"):
        trained_on(booster, Device("cuda", 0, 1))


def test_on_a_gpu_the_split_is_the_same_and_the_value_close(tmp_path: Path) -> None:
    gpu = Device("cuda", 0, 1)
    try:
        require_cuda(gpu)
    except DeviceError as error:
        pytest.skip(str(error))
    data = wine(label="quality")
    on_gpu, on_cpu = (load_dataset(data, "regression", device) for device in (gpu, CPU))
    assert type(on_gpu.features).__module__.startswith("cupy")
    for part, other in zip(split(on_gpu, 0.2, 3, 1), split(on_cpu, 0.2, 3, 1), strict=True):
        np.testing.assert_array_equal(part.train, other.train)
    study = optuna.create_study()
    study.enqueue_trial(TYPICAL)
    study.enqueue_trial(TYPICAL)
    for device in (gpu, CPU):
        study.optimize(build_objective(ObjectiveContext(make_spec(data=data), device)), n_trials=1)
    assert study.trials[0].user_attrs["device"] == "cuda:0"
    assert study.trials[0].value == pytest.approx(study.trials[1].value, rel=0.05)
