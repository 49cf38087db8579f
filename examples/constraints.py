"""Constraints: the most accurate forest among those that are small enough."""

from __future__ import annotations

from typing import Any

from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

MAX_NODES = 200


def objective(trial: Any) -> float:
    features, labels = load_wine(return_X_y=True)
    forest = RandomForestClassifier(
        n_estimators=trial.suggest_int("n_estimators", 1, 40),
        max_depth=trial.suggest_int("max_depth", 1, 10),
        random_state=0,
    )
    nodes = sum(tree.tree_.node_count for tree in forest.fit(features, labels).estimators_)
    # Kept where it is 0 or less. The sampler prefers trials that keep all constraints, and exports hold no others.
    trial.set_constraint("nodes", nodes - MAX_NODES)
    return float(cross_val_score(forest, features, labels, cv=3).mean())
