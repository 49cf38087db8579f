"""The retune rules: they decide whether a scheduled run has anything to do."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna

from optuna_spark.errors import ExportError
from optuna_spark.results.best import best_trials
from tuning_pipeline.exports.tuned_on import TUNED_ON

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from tuning_pipeline.study_file.keys.retune import RetuneSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """Whether to tune, and the reason in words."""

    tune: bool
    reason: str


def decide(
    settings: RetuneSettings, *, by_hand: bool, study: optuna.Study | None, fingerprint: str, rescored: float | None
) -> Decision:
    """Apply the retune rule of a study.

    Args:
        settings: The rule, and its limit.
        by_hand: Whether somebody triggered this run. Then it tunes, whatever the rule says.
        study: The stored study, if there is one.
        fingerprint: Fingerprint of today's data, for rule new_data.
        rescored: Value of the best trial on today's data, for rule drift.
    """
    if by_hand:
        return Decision(True, "triggered by hand")
    if settings.rule == "always":
        return Decision(True, "the rule is always")
    if study is None or best_trial(study) is None:
        return Decision(True, "there is no earlier result")
    if settings.rule == "new_data":
        if study.user_attrs.get(TUNED_ON) == fingerprint:
            return Decision(False, "the data has not changed since the last export")
        return Decision(True, "the data has changed since the last export, or none is recorded")
    return _by_drift(settings.drift, float(study.best_value), rescored)


def _by_drift(limit: float, old: float, new: float | None) -> Decision:
    if new is None:
        return Decision(True, "the best trial could not be run again")
    # Relative to the old value. That cannot be done for 0, from which any change counts as 100 %.
    moved = abs(new - old) / abs(old) if old else float(new != old)
    words = f"the best trial had {old:.6g} and has {new:.6g} on today's data, a change of {moved:.2%}"
    return Decision(moved > limit, f"{words}; the limit is {limit:.2%}")


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The best complete trial; None if there is none."""
    try:
        return best_trials(study, 1)[0]
    except ExportError:
        return None
