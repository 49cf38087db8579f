"""The built-in objective `xgboost`: train on a split or k folds, score on the rows kept back."""

from __future__ import annotations

import gc
import json
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost
from optuna import TrialPruned

from optuna_spark.data import read_cudf as gpu
from optuna_spark.data.dataset import Dataset
from optuna_spark.data.load import load_dataset
from optuna_spark.device import Device
from optuna_spark.errors import DataError, DeviceError
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.xgboost.curve import Curve
from optuna_spark.objectives.xgboost.fixed_params import fixed_params
from optuna_spark.objectives.xgboost.matrices import Fold, Matrices, matrices_for
from optuna_spark.objectives.xgboost.metric_tables import NEEDS_EVERY_CLASS
from optuna_spark.objectives.xgboost.metrics import metrics
from optuna_spark.objectives.xgboost.params import typed
from optuna_spark.objectives.xgboost.section import section_of
from optuna_spark.objectives.xgboost.unseen import rows_by_feature
from optuna_spark.sampling.search_space import suggest_params
from optuna_spark.spec.tuning import TuningSpec

log = logging.getLogger(__name__)

DEFAULT_MAX_BIN = 256


@dataclass
class Run:
    """One trial's training: all folds advance together, round by round.

    Attributes:
        boosters: One per fold.
        folds: Their matrices.
        rounds: Boosting rounds, at most.
        curve: The scores so far, means over the folds.
        done: Rounds trained.
    """

    boosters: list[xgboost.Booster]
    folds: list[Fold]
    rounds: int
    curve: Curve
    done: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether the last round is done or early stopping ended the training."""
        return self.done >= self.rounds or self.curve.is_spent(self.done - 1)

    def advance(self) -> None:
        """Train one more round in every fold."""
        for booster, fold in zip(self.boosters, self.folds, strict=True):
            booster.update(fold.train, self.done)
        self.done += 1

    def score(self) -> tuple[float, ...]:
        """The mean over the folds of each metric after the last round; noted in the curve."""
        texts = [
            booster.eval_set([(fold.validation, "validation")], self.done - 1)
            for booster, fold in zip(self.boosters, self.folds, strict=True)
        ]
        scores = tuple(float(s) for s in np.mean([parsed_scores(text) for text in texts], axis=0))
        self.curve.add(self.done - 1, scores)
        return scores


class XGBoostObjective:
    """Callable with an Optuna trial.

    Reports the first metric every `report_every` rounds when the study has a pruner. With several folds the
    trial is judged by their mean. Sets the user attributes rounds, rounds_saved, best_iteration (from 0),
    train_s and device, and fixed_params where the data decide some; unseen_categories where only validation
    rows have some, by feature: the number of these rows. Not thread-safe: XGBoost trains one model at a time per
    process.

    Raises:
        DataError, DeviceError: The table or the GPU cannot be used.
    """

    def __init__(self, context: ObjectiveContext) -> None:
        spec = context.spec
        assert spec.data is not None  # the registry checked it
        self._spec = spec
        self._xgboost = section_of(spec)
        self._device = context.device
        self._space = spec.search_space
        self._metrics = metrics(spec)
        require_gpu_build(context.device)
        dataset = load_dataset(spec.data, self._xgboost.task, context.device, context.table, context.data_secrets)
        self._matrices = matrices_for(dataset, context.device, self._xgboost.holdout, self._xgboost.folds, spec.seed)
        _check_classes(self._matrices, self._metrics)
        n_classes = len(dataset.labels.classes)
        tuned = self._space.get("multi_strategy")
        _check_trees(dataset, (self._xgboost.fixed.get("multi_strategy"), *(tuned.choices if tuned else ())))
        self._unseen = rows_by_feature(dataset, self._matrices.unseen, names=spec.data.names_in_errors)
        if self._unseen:
            log.warning("Validation rows with a category that no training row has, taken as missing: %s", self._unseen)
        self._base, self._of_data = base_params(spec, context.device, n_classes), of_data(spec, n_classes)

    def __call__(self, trial: Any) -> float | tuple[float, ...]:
        params = self._base | typed(suggest_params(trial, self._space))
        started = time.perf_counter()
        try:
            run = self._start(params)
            pruned = self._train(trial, run)
        except (xgboost.core.XGBoostError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._free()
            raise MemoryError(
                f"a trial does not fit into the memory of {self._device.name}: let fewer trials share it"
                " (resources.gpus_per_task, tasks), or lower max_depth, max_bin or folds"
            ) from error
        self._note(trial, run, time.perf_counter() - started)
        if pruned:
            raise TrialPruned(f"pruned after {run.done} of {run.rounds} rounds")
        return run.curve.scores[0] if len(self._metrics) == 1 else run.curve.scores

    def _start(self, params: dict[str, Any]) -> Run:
        rounds = params.pop("num_boost_round", self._xgboost.num_boost_round)
        patience = params.pop("early_stopping_rounds", self._xgboost.early_stopping_rounds)
        folds = self._matrices.folds(params.get("max_bin", DEFAULT_MAX_BIN))
        boosters = [xgboost.Booster(params, cache=list(fold)) for fold in folds]
        return Run(boosters, folds, rounds, Curve(self._spec.directions[0] == "maximize", patience))

    def _train(self, trial: Any, run: Run) -> bool:
        """Train until the last round, early stopping or the pruner; True when it was the pruner."""
        while True:
            run.advance()
            due = self._reports and run.done % self._xgboost.report_every == 0
            if due or run.done == run.rounds or run.curve.patience is not None:
                scores = run.score()
                if due:
                    trial.report(scores[0], run.done)
            if run.is_finished:
                return False
            if due and trial.should_prune():
                return True

    @property
    def _reports(self) -> bool:
        return len(self._metrics) == 1 and self._spec.pruner.name != "NopPruner"

    def _note(self, trial: Any, run: Run, seconds: float) -> None:
        trial.set_user_attr("rounds", run.done)
        trial.set_user_attr("rounds_saved", run.rounds - run.done)
        trial.set_user_attr("best_iteration", run.curve.best_iteration)
        trial.set_user_attr("train_s", round(seconds, 4))
        if self._of_data:
            trial.set_user_attr("fixed_params", self._of_data)
        if self._unseen:
            trial.set_user_attr("unseen_categories", self._unseen)
        trial.set_user_attr("device", trained_on(run.boosters[0], self._device))

    def _free(self) -> None:
        self._matrices.clear()
        gc.collect()
        gpu.free_memory()


def base_params(spec: TuningSpec, device: Device, n_classes: int) -> dict[str, Any]:
    """What every trial gives XGBoost beside its own parameters."""
    of_machine = {"device": device.name, "nthread": device.threads}
    return of_machine | of_data(spec, n_classes) | fixed_params(spec)


def of_data(spec: TuningSpec, n_classes: int) -> dict[str, Any]:
    """What XGBoost must be told of the data."""
    return {"num_class": n_classes} if section_of(spec).task == "multiclass" else {}


def trained_on(booster: xgboost.Booster, device: Device) -> str:
    """The device XGBoost used. It falls back to the CPU on its own, with no more than a warning.

    Raises:
        DeviceError: It is not the kind of device that was asked for.
    """
    if device.kind == "cpu":
        return device.name
    used = str(json.loads(booster.save_config())["learner"]["generic_param"]["device"])
    if not used.startswith("cuda"):
        raise DeviceError(f"XGBoost trained on {used} instead of {device.name}: see its warnings in the worker's log")
    return used


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a trial failed because its device has no memory left."""
    text = str(error)
    return isinstance(error, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY)


_OUT_OF_MEMORY = ("out of memory", "bad_alloc", "cudaErrorMemoryAllocation", "Memory allocation error")


def require_gpu_build(device: Device) -> None:
    """Refuse a GPU that this XGBoost cannot use.

    Raises:
        DeviceError: It is built without CUDA.
    """
    if device.kind == "cuda" and not xgboost.build_info().get("USE_CUDA"):
        raise DeviceError(f"{device.name} was given but this XGBoost is built without CUDA: install the PyPI wheel")


def _check_classes(matrices: Matrices, metric_names: tuple[str, ...]) -> None:
    needing = [m for m in metric_names if m in NEEDS_EVERY_CLASS]
    labels = matrices.dataset.labels
    if not needing:
        return
    tested = [("test", matrices.dataset.test_rows)] if matrices.dataset.test is not None else []
    for name, rows in [*(("validation", part.validation) for part in matrices.parts), *tested]:
        present = len(np.unique(labels.values[rows]))
        if present < len(labels.classes):
            raise DataError(
                f"{needing[0]} needs every class in the {name} rows, got {present} of {len(labels.classes)}:"
                " use fewer folds, more data, or another metric"
            )


def _check_trees(dataset: Dataset, strategies: Collection[Any]) -> None:
    if dataset.categories and "multi_output_tree" in strategies:
        raise DataError(
            f"multi_strategy multi_output_tree takes no categories, and {len(dataset.categories)} features are some:"
            " use one_output_per_tree, or set data.categorical to null and drop them"
        )


def parsed_scores(text: str) -> list[float]:
    r"""The scores of `Booster.eval_set`: `[0]\tvalidation-rmse:0.5\tvalidation-mae:0.25`."""
    return [float(field.rpartition(":")[2]) for field in text.split("\t")[1:]]
