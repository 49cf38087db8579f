"""The report's plots of the final model: what its features weigh, and its predictions of the test rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from tuning_pipeline.exports.report.plots import Section, drawn

MAX_FEATURES = 20
CARD, PREDICTIONS = "model_card.json", "test_predictions.json"


def model_sections(model: Mapping[str, bytes]) -> list[Section]:
    """The sections about a final model that has something to draw.

    Args:
        model: The files of its folder, by name; empty without one.
    """
    sections = []
    importances = json.loads(model[CARD]).get("importances") if CARD in model else None
    if importances:
        caption = "The mean absolute SHAP value of each feature: how far it moves the prediction of a training row."
        sections.append(drawn("What the final model looks at", caption, lambda: [_bars(importances)]))
    shown = json.loads(model[PREDICTIONS]) if PREDICTIONS in model else {}
    if shown.get("kind") == "residuals":
        caption = "Label minus prediction, over the prediction. An honest model has them around zero everywhere."
        sections.append(drawn("Residuals of the test rows", caption, lambda: [_residuals(shown)]))
    if shown.get("kind") == "calibration":
        caption = "Of the predictions near a probability, so many were right. A calibrated model is on the diagonal."
        sections.append(drawn("Calibration on the test rows", caption, lambda: [_calibration(shown)]))
    return sections


def _bars(importances: Sequence[Mapping[str, Any]]) -> go.Figure:
    first = list(reversed(importances[:MAX_FEATURES]))  # Plotly draws from below
    bars = go.Bar(x=[each["value"] for each in first], y=[each["feature"] for each in first], orientation="h")
    return go.Figure(bars).update_layout(
        height=130 + 26 * len(first),
        xaxis_title="mean |SHAP value|",
        yaxis={"automargin": True, "ticksuffix": "  ", "type": "category"},
    )


def _residuals(shown: Mapping[str, Any]) -> go.Figure:
    points = go.Scatter(x=shown["prediction"], y=shown["residual"], mode="markers", marker={"size": 5, "opacity": 0.6})
    figure = go.Figure(points).update_layout(height=380, xaxis_title="prediction", yaxis_title="label - prediction")
    return figure.add_hline(y=0, line_width=1)


def _calibration(shown: Mapping[str, Any]) -> go.Figure:
    counts = [f"{count:,} predictions" for count in shown["count"]]
    line = go.Scatter(x=shown["predicted"], y=shown["observed"], text=counts, mode="lines+markers", name="model")
    diagonal = go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"width": 1, "dash": "dot"}, name="calibrated")
    return go.Figure([line, diagonal]).update_layout(
        height=380, xaxis_title="predicted probability", yaxis_title="observed share"
    )
