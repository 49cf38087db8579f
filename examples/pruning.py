"""Pruning: a linear classifier, trained epoch by epoch, tells how it goes and ends where it is hopeless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    from optuna_spark.objectives.context import ObjectiveContext

EPOCHS = 10


def objective(trial: Any, context: ObjectiveContext) -> float:
    table = context.read_table()
    features = np.column_stack([table[name].to_numpy() for name in table.column_names if name != "target"]) / 16
    labels = table["target"].to_numpy()
    seed = context.spec.seed
    x, x_held_out, y, y_held_out = train_test_split(features, labels, random_state=seed, stratify=labels)
    model = SGDClassifier(
        learning_rate="constant",
        eta0=trial.suggest_float("eta0", 1e-4, 10.0, log=True),
        alpha=trial.suggest_float("alpha", 1e-6, 1e-1, log=True),
        random_state=seed,
    )
    accuracy = 0.0
    for epoch in range(1, EPOCHS + 1):
        model.partial_fit(x, y, classes=np.unique(labels))
        accuracy = float(model.score(x_held_out, y_held_out))
        trial.report(accuracy, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned(f"pruned after epoch {epoch}")
    return accuracy
