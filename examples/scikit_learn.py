"""Cross-validation with scikit-learn: a support vector machine, by its mean accuracy over five folds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

if TYPE_CHECKING:
    from optuna_spark.objectives.context import ObjectiveContext

LABEL = "target"


def objective(trial: Any, context: ObjectiveContext) -> float:
    features, labels = features_and_labels(context)
    model = make_pipeline(
        StandardScaler(),
        SVC(C=trial.suggest_float("C", 1e-2, 1e2, log=True), gamma=trial.suggest_float("gamma", 1e-4, 1.0, log=True)),
    )
    # The seed of the study: every worker makes the same folds, so that trials differ by their parameters alone.
    folds = StratifiedKFold(5, shuffle=True, random_state=context.spec.seed)
    scores = cross_val_score(model, features, labels, cv=folds, n_jobs=1)
    trial.set_user_attr("fold_scores", [round(float(score), 4) for score in scores])
    return float(scores.mean())


def features_and_labels(context: ObjectiveContext) -> tuple[Any, Any]:
    """The study's table as a matrix, and the column to predict."""
    table = context.read_table()
    features = [table[name].to_numpy() for name in table.column_names if name != LABEL]
    return np.column_stack(features), table[LABEL].to_numpy()
