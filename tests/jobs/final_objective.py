"""An objective of one's own with a final model, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np


class Line:
    """A straight line; instances need this module to be loaded."""

    def __init__(self, slope: float) -> None:
        self.slope = np.float64(slope)


def objective(trial: Any, context: Any) -> float:
    slope = trial.suggest_float("slope", 0, 4)
    table = context.read_table()
    return float(np.mean((slope * table["a"].to_numpy() - table["y"].to_numpy()) ** 2))


def train(params: dict[str, Any], data: Any) -> Line:
    assert data.num_rows
    return Line(params["slope"])


def train_with_context(params: dict[str, Any], data: Any, context: Any) -> dict[str, Any]:
    return {"rows": data.num_rows, "seen": context.read_table().num_rows, "device": context.device.name, **params}


def train_nothing(params: dict[str, Any], data: Any) -> Any:
    raise RuntimeError("no model today")


def train_unsavable(params: dict[str, Any], data: Any) -> Any:
    return lambda: params


def score(model: Line, data: Any) -> float:
    return float(np.mean((model.slope * data["a"].to_numpy() - data["y"].to_numpy()) ** 2))


def score_text(model: Line, data: Any) -> str:
    return "good"


def train_tree(params: dict[str, Any], data: Any) -> Any:
    from sklearn.tree import DecisionTreeRegressor

    return DecisionTreeRegressor(max_depth=4).fit(data["a"].to_numpy().reshape(-1, 1), data["y"].to_numpy())
