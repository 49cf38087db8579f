"""Parameters to try first: which of them are new to the study, and the trials that wait with them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_spark.storage.trial_record import FIXED


def new_sets(sets: Sequence[Mapping[str, Any]], trials: Iterable[FrozenTrial]) -> list[Mapping[str, Any]]:
    """The sets that no trial was queued with or has, each once.

    Optuna's own `enqueue_trial(skip_if_exists=True)` would go through all trials for each set.
    """
    known = {_text(trial.system_attrs.get(FIXED, trial.params)) for trial in trials}
    found = []
    for params in sets:
        text = _text(params)
        if text not in known:
            known.add(text)
            found.append(params)
    return found


def queued_trial(
    params: Mapping[str, Any], marks: Mapping[str, Any], user_attrs: Mapping[str, Any] | None = None
) -> FrozenTrial:
    """A trial that waits with these parameters, as `enqueue_trial` makes it, and has notes (storage/trial_marks.py)."""
    attrs = {FIXED: dict(params), **marks}
    return create_trial(state=TrialState.WAITING, system_attrs=attrs, user_attrs=dict(user_attrs or {}))


def _text(params: Mapping[str, Any]) -> str:
    """A text that is equal for equal parameters; 1 and 1.0 are equal."""
    numbers = {k: float(v) if isinstance(v, int) and not isinstance(v, bool) else v for k, v in params.items()}
    return json.dumps(numbers, sort_keys=True, default=repr)
