"""What is known of an objective before any trial runs: Airflow imports it, so nothing heavy stands here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

from optuna_spark.errors import SpecError
from optuna_spark.objectives.context import Objective, ObjectiveContext
from optuna_spark.objectives.trained_model import TrainedModel
from optuna_spark.spec.model import ModelOrder
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec


class ObjectiveKind:
    """A kind of objective, as the registry lists it. What is not overridden says: nothing of that sort.

    Attributes:
        implementation: `module:name` of what makes the objective from an ObjectiveContext. A text, because only workers
            import it.
        trainer: `module:name` of what trains its final model from an ObjectiveContext and a ModelOrder, a text for the
            same reason; empty where it has none.
        title: Its name as a person writes it; by default the registry's.
        section: Dataclass of its section in a study file, whose fields are keys (see `spec.key`). The section has the
            name under which the registry lists the objective.
        needs_data: Whether it trains on a table.
        max_gpus: Most GPUs that a trial can use; None where only the objective's code knows.
        words: Texts that its parameters may have, and that mean nothing outside it: a trigger form may give them.
        init_scripts: Scripts of init/databricks that a node needs beside init_optuna.sh, and the lock files that each
            carries.
    """

    implementation: ClassVar[str]
    trainer: ClassVar[str] = ""
    title: ClassVar[str] = ""
    section: ClassVar[type | None] = None
    needs_data: ClassVar[bool] = False
    max_gpus: ClassVar[int | None] = 1
    words: ClassVar[tuple[str, ...]] = ()
    init_scripts: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    def default_space(self, _spec: TuningSpec) -> dict[str, ParamSpec]:
        """The search space of a study that names none; empty where running the objective defines it."""
        return {}

    def check_gpus(self, spec: TuningSpec) -> None:
        """Refuse GPUs that would idle.

        Raises:
            SpecError: A trial gets more than it can use.
        """
        gpus = spec.resources.gpus_per_task
        if self.max_gpus is not None and gpus > self.max_gpus:
            raise SpecError(
                f"gpus_per_task must be at most {self.max_gpus} for objective {spec.objective}, which uses no more in a"
                f" trial, got {gpus:g}; with more tasks more trials run at the same time",
                "resources",
            )

    def check(self, _spec: TuningSpec) -> None:
        """Refuse what can be known to be wrong without data. The spec has its effective search space.

        Raises:
            SpecError: The first thing wrong.
        """

    def check_model(self, spec: TuningSpec) -> None:
        """Refuse what a study must not say of its final model.

        Raises:
            SpecError: The objective has no model, or a function is named and it brings its own.
        """
        model = spec.model
        if model is None:
            return
        if not self.trainer:
            raise SpecError(f"objective {spec.objective} makes no model; remove model")
        if model.train is not None or model.score is not None:
            raise SpecError(
                f"model.train and model.score are for objectives of your own; {spec.objective} trains its model itself:"
                " remove them"
            )

    def check_import(self, _spec: TuningSpec) -> None:
        """Import what only the user brings.

        Raises:
            SpecError: It cannot be imported, or is no objective.
        """

    def value_names(self, _spec: TuningSpec) -> tuple[str, ...]:
        """What the values are called, one name for each direction; empty where only the objective's code knows."""
        return ()

    def fixed_params(self, _spec: TuningSpec) -> dict[str, Any]:
        """The parameters that every trial gave its library beside its own, as far as they are known without data.

        What belongs to a machine, such as a device or a number of threads, is not among them. What an objective finds
        out from its data it sets as the trial's user attribute `fixed_params`.
        """
        return {}

    def max_steps(self, _spec: TuningSpec) -> int | None:
        """The last step that a full trial reports; None where only the objective's code knows."""
        return None

    def early_imports(self, _spec: TuningSpec) -> tuple[str, ...]:
        """Modules that every worker of the run imports, and that survive a fork (CUDA does not)."""
        return ()

    def train_model(self, context: ObjectiveContext, order: ModelOrder) -> TrainedModel:
        """Train the final model on all training rows, and score it on the test rows.

        Raises:
            SpecError, DataError, DeviceError: As `build`.
            ModelError: It cannot be trained, scored or saved.
        """
        module, _, name = self.trainer.partition(":")
        model: TrainedModel = getattr(importlib.import_module(module), name)(context, order)
        return model

    def build(self, context: ObjectiveContext) -> Objective:
        """The objective as Optuna calls it. Loads the data, once per process.

        Args:
            context: Its spec has been checked, and has its effective search space.

        Raises:
            SpecError: The objective or its parameters are wrong.
            DataError: The training table is.
            DeviceError: The GPU is not there.
        """
        module, _, name = self.implementation.partition(":")
        objective: Objective = getattr(importlib.import_module(module), name)(context)
        return objective
