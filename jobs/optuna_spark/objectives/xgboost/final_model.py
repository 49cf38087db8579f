"""Trains the final model of the objective `xgboost`: one booster, on all training rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import xgboost

from optuna_spark.data.dataset import Dataset, host
from optuna_spark.data.load import load_dataset
from optuna_spark.data.split import Part
from optuna_spark.data.splits.weights import row_weights, training_weights
from optuna_spark.errors import ModelError
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.trained_model import EXAMPLE_ROWS, TrainedModel
from optuna_spark.objectives.xgboost.constraints import by_place
from optuna_spark.objectives.xgboost.explained import importances, plot_of_test
from optuna_spark.objectives.xgboost.matrices import on_device, quantised
from optuna_spark.objectives.xgboost.objective import (
    DEFAULT_MAX_BIN,
    base_params,
    is_out_of_memory,
    parsed_scores,
    require_gpu_build,
    trained_on,
)
from optuna_spark.objectives.xgboost.params import typed
from optuna_spark.objectives.xgboost.section import balances_classes, section_of
from optuna_spark.objectives.xgboost.unseen import unseen_cells, without_cells
from optuna_spark.spec.model import ModelOrder
from optuna_spark.spec.tuning import TuningSpec

# XGBoost refuses a name with one of these.
_NOT_IN_NAMES = "[]<"


def train_model(context: ObjectiveContext, order: ModelOrder) -> TrainedModel:
    """Train the best trial's parameters on all training rows, and score the model on the test rows.

    It is trained for the rounds that the trial's early stopping found, since no row is left to stop at: the best
    iteration of the trial, counted from 1.

    Raises:
        DataError, DeviceError: The table or the GPU cannot be used.
        ModelError: It does not fit into memory.
    """
    spec, device = context.spec, context.device
    assert spec.table is not None  # the registry checked it
    require_gpu_build(device)
    section = section_of(spec)
    dataset = load_dataset(spec.table, section.task, device, context.table, context.data_secrets)
    try:
        booster, rounds = _train(context, order, dataset)
        values, plot = _tested(booster, dataset, context)
        with on_device(dataset.features, device):
            weights = importances(booster, dataset.features[dataset.training_rows], dataset.names)
    except (xgboost.core.XGBoostError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"the final model does not fit into the memory of {device.name}: all training rows need more than a trial"
            " did; give the task more (spark.executor_memory, resources.gpus_per_task), or narrow max_depth and max_bin"
        ) from error
    return TrainedModel(
        file="model.ubj",
        content=bytes(booster.save_raw("ubj")),
        features=tuple((name, "category" if name in dataset.categories else "float32") for name in dataset.names),
        rows=len(dataset.training_rows),
        test_rows=len(dataset.test_rows),
        test_values=values,
        rounds=rounds,
        label=spec.table.label,
        classes=dataset.labels.classes,
        example=_example(dataset),
        importances=weights,
        test_plot=plot,
        packages=("xgboost", "numpy", "scipy"),
        more={"task": section.task, "device": trained_on(booster, device)} | _categories(dataset, spec),
    )


def _train(context: ObjectiveContext, order: ModelOrder, dataset: Dataset) -> tuple[xgboost.Booster, int]:
    n_classes = len(dataset.labels.classes)
    params = base_params(context.spec, context.device, n_classes) | order.fixed | typed(order.params)
    params = by_place(params, dataset.names, may_name=context.spec.errors_may_quote)
    rounds = params.pop("num_boost_round", section_of(context.spec).num_boost_round)
    params.pop("early_stopping_rounds", None)
    rounds = order.rounds or rounds
    with on_device(dataset.features, context.device):
        max_bin = params.get("max_bin", DEFAULT_MAX_BIN)
        rows = dataset.training_rows
        weights = training_weights(dataset, rows, balance_classes=balances_classes(context.spec))
        train = quantised(dataset, rows, max_bin, context.device, weights=weights)
        booster = xgboost.Booster(params, cache=[train])
        for done in range(rounds):
            booster.update(train, done)
    if not any(mark in name for name in dataset.names for mark in _NOT_IN_NAMES):
        booster.feature_names = list(dataset.names)
    booster.feature_types = dataset.feature_types or ["q"] * len(dataset.names)
    return booster, rounds


def _tested(
    booster: xgboost.Booster, dataset: Dataset, context: ObjectiveContext
) -> tuple[tuple[float, ...] | None, dict[str, Any]]:
    """The values on the test rows, and what there is to draw of them."""
    rows, labels = dataset.test_rows, dataset.labels
    if len(rows) == 0:
        return None, {}
    with on_device(dataset.features, context.device):
        unseen = unseen_cells(dataset, Part(dataset.training_rows, rows))
        test = xgboost.DMatrix(
            without_cells(dataset.features[rows], unseen),
            label=dataset.labels.values[rows],
            weight=row_weights(dataset, rows),
            feature_names=booster.feature_names,
            feature_types=dataset.feature_types,
            enable_categorical=bool(dataset.categories),
            nthread=context.device.threads,
        )
        values = tuple(parsed_scores(booster.eval_set([(test, "test")])))
        return values, plot_of_test(booster.predict(test), labels.values[rows], len(labels.classes))


def _categories(dataset: Dataset, spec: TuningSpec) -> dict[str, Any]:
    """For the card: the values of each feature that is categories; a code is the place of its value.

    Nothing where the trigger form gave the path: they quote the file.
    """
    assert spec.data is not None
    shown = dataset.categories if spec.data.names_in_errors else {}
    return {"categories": {name: list(values) for name, values in shown.items()}} if shown else {}


def _example(dataset: Dataset) -> dict[str, list[Any]]:
    block = host(dataset.features[dataset.training_rows[:EXAMPLE_ROWS]])
    cells = [[None if np.isnan(value) else float(value) for value in column] for column in block.T]
    return dict(zip(dataset.names, cells, strict=True))
