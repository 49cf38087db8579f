"""What best_params.json and the report say of how honest the best value is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tuning_pipeline.exports.final_model import CARD, MODEL


def score_facts(best: Mapping[str, Any], model: Mapping[str, bytes], tested: bool) -> dict[str, Any]:
    """The keys of best_params.json about the final model and its score.

    Args:
        best: The content of best_params.json so far.
        model: The files of the final model, by name; empty without one.
        tested: Whether the study keeps test rows back.

    Returns:
        `test_values`, the model's values on the test rows; `test_gap`, how far each is above the best value; both None
        without a score. `score_note`, the same as a sentence; None where the study names no data. `model`, its name,
        folder and rows; None without one.
    """
    card = json.loads(model[CARD]) if model else None
    tests = [metric["test"] for metric in card["metrics"]] if card else []
    scored = bool(tests) and all(isinstance(test, int | float) for test in tests)
    gaps = [_gap(test, value) for test, value in zip(tests, best["values"], strict=True)] if scored else None
    return {
        "test_values": tests if scored else None,
        "test_gap": gaps,
        "score_note": _note(best, tests if scored else None, card, tested=tested),
        "model": None if card is None else {"name": card["name"], "path": MODEL, "rows": card["rows"]},
    }


def _gap(test: float, value: Any) -> float | None:
    return test - value if isinstance(value, int | float) else None  # an infinite value is a text


def _note(
    best: Mapping[str, Any], tests: Sequence[float] | None, card: Mapping[str, Any] | None, *, tested: bool
) -> str | None:
    if best.get("data") is None:
        return None
    if tests is not None and card is not None:
        found = ", ".join(
            f"{name} {test:.6g} (best validation value {_number(value)})"
            for name, test, value in zip(best["metrics"], tests, best["values"], strict=True)
        )
        return f"On {card['rows']['test']:,} test rows, which no trial has seen, the final model has {found}."
    optimistic = f"The best value is optimistic: it is the best of {best['n_trials']:,} trials on the same rows."
    if not tested:
        return f"{optimistic} With data.test and model the study would also have a score on rows that no trial sees."
    return f"{optimistic} The test rows were kept back, and no model was scored on them: that is what model is for."


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)
