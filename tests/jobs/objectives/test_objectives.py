"""Building objectives: the built-in ones, a user's own, and what is wrong before any data is read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from optuna_spark.device import Device
from optuna_spark.errors import SpecError
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.registry import (
    build_objective,
    check_objective,
    default_search_space,
    effective_search_space,
)
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from tests.support.programs import run_python

CPU = Device("cpu", None, 1)


def context(objective: str, **changes: Any) -> ObjectiveContext:
    return ObjectiveContext(TuningSpec("study", objective=objective, **changes), CPU)


def xgboost_spec(**xgboost: Any) -> TuningSpec:
    space = xgboost.pop("search_space", {})
    directions = xgboost.pop("directions", ("minimize",))
    data = DataSpec("sklearn:diabetes")
    return TuningSpec(
        "s", objective="xgboost", directions=directions, search_space=space, data=data, objective_section=xgboost
    )


# --- quadratic


def test_the_quadratic_is_lowest_at_two() -> None:
    objective = build_objective(context("quadratic"))
    study = optuna.create_study()
    study.enqueue_trial({"x": 2.0})
    study.enqueue_trial({"x": -1.0})
    study.optimize(objective, n_trials=2)
    assert [trial.value for trial in study.trials] == [0.0, 9.0]


def test_the_quadratic_has_a_value_per_direction() -> None:
    objective = build_objective(context("quadratic", directions=("minimize", "minimize")))
    assert objective(optuna.trial.FixedTrial({"x": 1.0})) == (1.0, 9.0)


def test_the_quadratic_refuses_texts() -> None:
    space = {"x": ParamSpec("categorical", choices=(1, "two"))}
    with pytest.raises(SpecError, match=r"search_space.x: .* numbers only, got 'two'"):
        build_objective(context("quadratic", search_space=space))


# --- module:function


def write_module(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))


def test_a_function_gets_the_trial_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "def one(trial, power=2):\n    return trial.suggest_float('x', 0, 1) ** power\n"
    write_module(tmp_path, monkeypatch, "own_one", text)
    assert build_objective(context("own_one:one"))(optuna.trial.FixedTrial({"x": 0.5})) == 0.25


@pytest.mark.parametrize("signature", ["trial, worker", "trial, context=None", "trial, /, context"])
def test_a_function_with_a_second_parameter_gets_the_context(
    signature: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"own_two_{len(signature)}"
    second = signature.rpartition(", ")[2].partition("=")[0]
    write_module(tmp_path, monkeypatch, name, f"def two({signature}):\n    return {second}.device.threads\n")
    assert build_objective(context(f"{name}:two"))(optuna.trial.FixedTrial({})) == 1


def test_a_callable_object_is_an_objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "class Model:\n    def __call__(self, trial):\n        return 4.0\nmodel = Model()\n"
    write_module(tmp_path, monkeypatch, "own_object", text)
    assert build_objective(context("own_object:model"))(optuna.trial.FixedTrial({})) == 4.0


BAD_MODULES = {
    "no module": (
        "",
        "own_missing:f",
        "no module 'own_missing' where the trials run: put own_missing.py, or the folder",
    ),
    "no package": ("", "own_missing.part:f", "the folder own_missing with its __init__.py, beside the study file"),
    "its import is missing": ("import not_there", "own_bad:f", "module 'own_bad' needs 'not_there'"),
    "broken": ("1 / 0", "own_bad:f", "module 'own_bad' cannot be imported: ZeroDivisionError"),
    "no function": ("def train(trial): pass", "own_bad:trian", "no function 'trian': did you mean 'train'"),
    "not callable": ("f = 3", "own_bad:f", "'own_bad:f' must be a function, got int"),
    "async": ("async def f(trial): return 1.0", "own_bad:f", "'own_bad:f' must return its value itself"),
    "a generator": ("def f(trial): yield 1.0", "own_bad:f", "'own_bad:f' must return its value itself"),
    "no parameter": ("def f(): pass", "own_bad:f", r"must be callable as function\(trial\) or .*, got \(\)"),
    "three": ("def f(a, b, c): pass", "own_bad:f", r"must be callable as .*, got \(a, b, c\)"),
}


@pytest.mark.parametrize(("text", "objective", "sentence"), BAD_MODULES.values(), ids=BAD_MODULES.keys())
def test_a_bad_objective_is_explained(
    text: str, objective: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "own_bad", raising=False)
    write_module(tmp_path, monkeypatch, "own_bad", text)
    with pytest.raises(SpecError, match=sentence):
        build_objective(context(objective))
    monkeypatch.delitem(sys.modules, "own_bad", raising=False)


# --- search spaces and parameter names


def test_checking_a_study_imports_neither_xgboost_nor_arrow_nor_optuna() -> None:
    code = (
        "import sys; from optuna_spark.objectives.registry import check_objective;"
        "from optuna_spark.spec.data import DataSpec; from optuna_spark.spec.tuning import TuningSpec;"
        "check_objective(TuningSpec('s', objective='xgboost', data=DataSpec('t.csv')));"
        "print(sorted({'numpy', 'pyarrow', 'xgboost', 'optuna'} & set(sys.modules)))"
    )
    assert run_python(code).stdout == "[]\n"


def test_default_search_spaces_are_copies() -> None:
    default_search_space("xgboost").clear()
    assert set(default_search_space("xgboost")) > {"learning_rate", "max_bin"}
    assert default_search_space("module:function") == {}


def test_a_fixed_parameter_leaves_the_default_search_space() -> None:
    space = effective_search_space(xgboost_spec(fixed={"eta": 0.1, "max_depth": 3}))
    assert set(space) == {"subsample", "colsample_bytree", "min_child_weight", "max_bin"}


FLOAT = ParamSpec("float", 0.1, 1)
INT = ParamSpec("int", 1, 9)

BAD_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "max_bins": ({"search_space": {"max_bins": INT}}, "search_space.max_bins: .*ignore.*; use max_bin$"),
    "num_estimators": ({"search_space": {"num_estimators": INT}}, "use num_boost_round"),
    "n_estimators": ({"fixed": {"n_estimators": 3}}, "xgboost.fixed.n_estimators: .*use num_boost_round"),
    "a typing error": ({"search_space": {"colsample_bytre": FLOAT}}, "use colsample_bytree"),
    "anything": ({"search_space": {"qqq": FLOAT}}, "a parameter called 'qqq'; valid names: .*, max_depth, "),
    "gpu_hist": ({"fixed": {"tree_method": "gpu_hist"}}, "gpu_hist is gone: use hist, .*resources.gpus_per_task"),
    "exact": ({"fixed": {"tree_method": "exact"}}, "must be one of hist, auto, got 'exact'"),
    "gblinear": ({"fixed": {"booster": "gblinear"}}, "must be one of gbtree, dart, got 'gblinear'"),
    "device": ({"fixed": {"device": "cuda"}}, "decided elsewhere: set resources.gpus_per_task"),
    "nthread": ({"fixed": {"nthread": 4}}, "decided elsewhere: set resources.cpus_per_task"),
    "eval_metric": ({"fixed": {"eval_metric": "mae"}}, "decided elsewhere: set xgboost.metric"),
    "fixed rounds": ({"fixed": {"num_boost_round": 9}}, "xgboost.fixed.num_boost_round: set xgboost.num_boost_round"),
    "dart": ({"search_space": {"rate_drop": FLOAT}}, "search_space.rate_drop: only booster dart reads it"),
    "tweedie": ({"search_space": {"tweedie_variance_power": FLOAT}}, "only objective reg:tweedie reads it"),
    "scale_pos_weight": ({"task": "multiclass", "fixed": {"scale_pos_weight": 2}}, "only objective .*binary:logistic"),
    "other objective": ({"fixed": {"objective": "binary:logistic"}}, "must be one of reg:squarederror, .*, got 'bin"),
    "twice": ({"search_space": {"eta": FLOAT, "learning_rate": FLOAT}}, r"given twice \(as 'eta' too\)"),
    "tuned and fixed": ({"search_space": {"eta": FLOAT}, "fixed": {"eta": 1}}, r"twice \(tuned and in xgboost.fixed"),
    "float depth": ({"search_space": {"max_depth": FLOAT}}, "search_space.max_depth: .*use type int"),
    "fixed depth": ({"fixed": {"max_depth": 2.5}}, "must be a whole number, got 2.5"),
    "chosen depth": (
        {"search_space": {"max_depth": ParamSpec("categorical", choices=(2, "six"))}},
        "must be a whole number, got 'six'",
    ),
}


@pytest.mark.parametrize(("xgboost", "sentence"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS.keys())
def test_a_parameter_xgboost_would_ignore_or_misread_is_an_error(xgboost: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        check_objective(xgboost_spec(**xgboost))


GOOD_PARAMETERS: dict[str, dict[str, Any]] = {
    "aliases": {"search_space": {"eta": FLOAT, "reg_lambda": FLOAT, "min_split_loss": FLOAT}},
    "rounds": {"search_space": {"num_boost_round": INT, "early_stopping_rounds": INT}},
    "dart": {"fixed": {"booster": "dart"}, "search_space": {"rate_drop": FLOAT}},
    "tuned booster": {
        "search_space": {"booster": ParamSpec("categorical", choices=("gbtree", "dart")), "skip_drop": FLOAT}
    },
    "tweedie": {"fixed": {"objective": "reg:tweedie", "tweedie_variance_power": 1.2}},
    "whole float": {"fixed": {"max_depth": 3.0}},
    "default or two": {"search_space": {"max_depth": ParamSpec("categorical", choices=(None, 2))}},
    "imbalance": {"task": "binary", "fixed": {"scale_pos_weight": 3}},
}


@pytest.mark.parametrize("xgboost", GOOD_PARAMETERS.values(), ids=GOOD_PARAMETERS.keys())
def test_a_parameter_xgboost_reads_is_accepted(xgboost: dict[str, Any]) -> None:
    check_objective(xgboost_spec(**xgboost))


# --- metrics

BAD_METRICS: dict[str, tuple[dict[str, Any], str]] = {
    "direction": ({"task": "binary", "metric": "auc"}, "directions: auc is better when larger: .*maximize"),
    "other direction": ({"metric": "mae", "directions": ("maximize",)}, "mae is better when smaller: .*minimize"),
    "unknown": ({"metric": "r2"}, r"xgboost.metric: must be a metric for task regression \(rmse, .*\), got 'r2'"),
    "of another task": ({"metric": "mlogloss"}, "must be a metric for task regression"),
    "too few": ({"directions": ("minimize", "minimize")}, "metric.* per direction"),
    "too many": ({"metric": ("rmse", "mae")}, "metric.* per direction"),
    "twice": ({"metric": ("mae", "mae"), "directions": ("minimize",) * 2}, "must not name a metric twice"),
    "tweedie": ({"metric": "tweedie-nloglik"}, "write tweedie-nloglik@1.5"),
    "quantile": ({"metric": "quantile"}, "quantile needs xgboost.objective: reg:quantileerror"),
}


@pytest.mark.parametrize(("xgboost", "sentence"), BAD_METRICS.values(), ids=BAD_METRICS.keys())
def test_a_metric_that_does_not_fit_the_study_is_an_error(xgboost: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        check_objective(xgboost_spec(**xgboost))


# --- artifacts


def test_files_need_a_folder_that_the_study_names(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="keeps files and the study names no folder for them: give artifacts"):
        _ = context("quadratic").artifact_store
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match=r"cannot make the folder '.*/file/kept' of artifacts \(Not a directory\)"):
        _ = context("quadratic", artifacts=f"{tmp_path}/file/kept").artifact_store


@pytest.mark.parametrize("folder", ["kept", "", "dbfs:/kept", "~/kept"])
def test_the_folder_of_files_is_the_same_on_every_machine(folder: str) -> None:
    with pytest.raises(SpecError, match="artifacts must be an absolute path that every worker sees, got"):
        TuningSpec("study", artifacts=folder)
