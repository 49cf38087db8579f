"""Picks, of the parameter sets to try first, those that are new to the study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial


def new_sets(sets: Sequence[Mapping[str, Any]], trials: Iterable[FrozenTrial]) -> list[Mapping[str, Any]]:
    """The sets that no trial was queued with or has, each once.

    Optuna's own `enqueue_trial(skip_if_exists=True)` would go through all trials for each set.
    """
    known = {_text(trial.system_attrs.get("fixed_params", trial.params)) for trial in trials}
    found = []
    for params in sets:
        text = _text(params)
        if text not in known:
            known.add(text)
            found.append(params)
    return found


def _text(params: Mapping[str, Any]) -> str:
    """A text that is equal for equal parameters; 1 and 1.0 are equal."""
    numbers = {k: float(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in params.items()}
    return json.dumps(numbers, sort_keys=True, default=repr)
