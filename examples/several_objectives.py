"""Several objectives: a decision tree that is to be accurate, and small."""

from __future__ import annotations

from typing import Any

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier


def objective(trial: Any) -> tuple[float, float]:
    """Accuracy on rows kept back, and leaves: in the order of `directions` in the study file."""
    features, labels = load_digits(return_X_y=True)
    x, x_held_out, y, y_held_out = train_test_split(features, labels, random_state=0, stratify=labels)
    tree = DecisionTreeClassifier(
        max_depth=trial.suggest_int("max_depth", 2, 16),
        min_samples_leaf=trial.suggest_int("min_samples_leaf", 1, 50, log=True),
        random_state=0,
    ).fit(x, y)
    return float(tree.score(x_held_out, y_held_out)), float(tree.get_n_leaves())
