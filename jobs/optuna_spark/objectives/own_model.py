"""Trains the final model of a user's own objective, by the functions that the study file names."""

from __future__ import annotations

import importlib.metadata
import io
import pickle
import sys
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from optuna_spark.data.table import read_table
from optuna_spark.data.test_rows import both_parts
from optuna_spark.errors import ModelError, error_text
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.custom import load_function
from optuna_spark.objectives.trained_model import EXAMPLE_ROWS, TrainedModel
from optuna_spark.spec.model import ModelOrder


def train_own_model(context: ObjectiveContext, order: ModelOrder) -> TrainedModel:
    """Call the study's functions: `train` with the training rows, `score` with the test rows.

    Raises:
        SpecError: There is no such function, or it is not called like one.
        DataError: The table cannot be read.
        ModelError: A function raised, the model cannot be saved, or the score is no number.
    """
    spec = context.spec
    assert spec.model is not None  # the registry checked it
    assert spec.model.train is not None
    whole = _whole_table(context)
    train, test = (None, None) if whole is None or spec.data is None else both_parts(whole, spec.data)
    function = load_function(spec.model.train, "model.train", ("params", "data"), context.for_trials())
    model = _called(spec.model.train, spec.errors_may_quote, function, dict(order.params), train)
    values = None
    if test is not None and spec.model.score is not None:
        function = load_function(spec.model.score, "model.score", ("model", "data"), context.for_trials())
        found = _called(spec.model.score, spec.errors_may_quote, function, model, test)
        values = _numbers(spec.model.score, found, len(spec.directions))
    content = _saved(model)  # first, because it tells what cannot be saved
    packages, modules = _needed(model)
    return TrainedModel(
        file="model.joblib",
        content=content,
        features=() if train is None else tuple((field.name, str(field.type)) for field in train.schema),
        rows=0 if train is None else train.num_rows,
        test_rows=0 if test is None else test.num_rows,
        test_values=values,
        rounds=order.rounds,
        label=None if spec.data is None else spec.data.label,
        example={} if train is None else _example(train),
        packages=packages,
        modules=modules,
    )


def _whole_table(context: ObjectiveContext) -> pa.Table | None:
    data = context.spec.data
    if context.table is not None or data is None:
        return context.table
    return read_table(data, context.data_secrets)


def _called(name: str, quotes: bool, function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001  # the function is the user's
        told = error_text(error) if quotes else type(error).__name__
        raise ModelError(f"{name} failed: {type(error).__name__}\n{told}") from None


def _numbers(name: str, found: Any, n_values: int) -> tuple[float, ...]:
    given = list(found) if isinstance(found, Sequence) and not isinstance(found, str) else [found]
    try:
        numbers = tuple(float(value) for value in given)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != n_values or isinstance(found, str):
        raise ModelError(f"{name} must return {n_values} number(s), got {type(found).__name__}: correct model.score")
    return numbers


def _saved(model: Any) -> bytes:
    import joblib

    file = io.BytesIO()
    try:
        joblib.dump(model, file)
    except Exception as error:
        raise ModelError(
            f"joblib cannot save the model, a {type(model).__name__} ({type(error).__name__}): let model.train return"
            " what can be pickled"
        ) from error
    return file.getvalue()


def _needed(model: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What loading the model imports: distributions, and modules of the user's own."""
    found = _Modules(io.BytesIO())
    found.dump(model)
    tops = {name.partition(".")[0] for name in found.names}
    of_packages = importlib.metadata.packages_distributions()
    packages = {of_packages[top][0] for top in tops if top in of_packages}
    own = tops - set(of_packages) - set(sys.stdlib_module_names)
    return ("joblib", *sorted(packages - {"joblib"})), tuple(sorted(own))


class _Modules(pickle.Pickler):
    """Notes the modules of everything that it is given to save."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5, buffer_callback=lambda _buffer: None)
        self.names: set[str] = set()

    def reducer_override(self, value: Any) -> Any:
        self.names.add(str(getattr(value, "__module__", None) or type(value).__module__))
        self.names.add(type(value).__module__)
        return NotImplemented


def _example(table: pa.Table) -> dict[str, list[Any]]:
    return {name: table.column(name).slice(0, EXAMPLE_ROWS).to_pylist() for name in table.column_names}
