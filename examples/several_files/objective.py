"""What the study file names: `several_files.objective:objective`."""

from __future__ import annotations

from typing import Any

from several_files.model import forecast_error
from several_files.series import temperatures


def objective(trial: Any) -> float:
    """Mean error of a forecast for the next day."""
    level = trial.suggest_float("level", 0.01, 1.0)
    trend = trial.suggest_float("trend", 0.01, 1.0)
    return forecast_error(temperatures(), level, trend)
