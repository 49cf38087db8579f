"""Holt's linear trend method: exponential smoothing of a level and a trend."""

from __future__ import annotations

from collections.abc import Sequence


def forecast_error(series: Sequence[float], level_weight: float, trend_weight: float) -> float:
    """Mean absolute error of the forecast for the next value, over the series."""
    level, trend, errors = series[0], 0.0, []
    for value in series[1:]:
        forecast = level + trend
        errors.append(abs(value - forecast))
        before, level = level, forecast + level_weight * (value - forecast)
        trend += trend_weight * (level - before - trend)
    return sum(errors) / len(errors)
