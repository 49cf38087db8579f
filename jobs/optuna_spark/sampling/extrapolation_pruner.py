"""A pruner of our own, besides Optuna's: it extrapolates a trial's learning curve to the last step."""

from __future__ import annotations

import math
from collections.abc import Mapping

from optuna import Study
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

# A curve whose slope shrinks by less than this share is a straight line, but for the last digits.
STRAIGHT = 1e-12


class ExtrapolationPruner(BasePruner):
    """Prunes a trial whose learning curve, extrapolated to the last step, ends worse than the best trial's.

    Pruners that compare trials at the same step prune slow learners, for example trials with a small learning rate.
    These often win in the end, so a search that tunes the learning rate may get worse with such a pruner. This pruner
    keeps a trial as long as it improves fast enough.

    Three points of the curve (first, middle, last) determine an exponential: its present slope, and the rate at which
    the slope shrinks. Real curves flatten more slowly later on, so the slope is assumed to shrink at only `flattening`
    times that rate. With 1, an exponential curve is extrapolated exactly. With 0, the curve goes on as a straight line,
    which prunes no convex curve wrongly. The default was chosen with other seeds than those of `make bench CASES=d`,
    which shows its effect.

    Ending trials by extrapolated curves is from Domhan, Springenberg and Hutter, IJCAI 2015,
    https://www.ijcai.org/Proceedings/15/Papers/487.pdf. They fit eleven models to each curve.

    Args:
        max_resource: The last step of a trial that is not pruned. The engine sets it for the objective xgboost.
        flattening: Share of the observed rate of flattening that the rest of the curve is assumed to have, at least 0.
            A smaller one keeps more trials.
        n_warmup_steps: No trial is pruned before this step; None means a tenth of `max_resource`.

    Raises:
        ValueError: An argument is missing or out of its range.
    """

    def __init__(
        self, *, max_resource: int | None = None, flattening: float = 0.6, n_warmup_steps: int | None = None
    ) -> None:
        if max_resource is None:
            raise ValueError("max_resource is missing: set it to the last step a trial reports")
        if max_resource < 1:
            raise ValueError(f"max_resource must be at least 1, got {max_resource}")
        if not flattening >= 0:
            raise ValueError(f"flattening must be at least 0, got {flattening}")
        self._last = max_resource
        self._flattening = flattening
        self._warmup = math.ceil(max_resource / 10) if n_warmup_steps is None else n_warmup_steps

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial should end. Not as long as no trial is complete, unless it reported NaN."""
        step = trial.last_step
        if step is None or step < self._warmup:
            return False
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        target = best_end(study)
        if math.isnan(trial.intermediate_values[step]):
            return True
        end = extrapolated(trial.intermediate_values, sign, self._flattening, self._last)
        return target is not None and end is not None and end > sign * target


def best_end(study: Study) -> float | None:
    """The last value that the best trial reported; None if there is none.

    Not its objective value: an objective may return another value than it reports.
    """
    try:
        best = study.best_trial
    except ValueError:  # no trial is complete
        return None
    return None if best.last_step is None else best.intermediate_values[best.last_step]


def extrapolated(curve: Mapping[int, float], sign: float, flattening: float, last: int) -> float | None:
    """The value of a learning curve at step `last`, times `sign`, so that smaller is better.

    None below three points, and where all are NaN. Never NaN, and never worse than the best point.

    From the first half of the curve to the second, the slope shrinks by exp(-rate) for each step. It is assumed to go
    on shrinking at `flattening` times that rate.

    Args:
        curve: Reported values by step.
        sign: 1 to minimize, -1 to maximize.
        flattening: See ExtrapolationPruner.
        last: The step to extrapolate to.
    """
    steps = sorted(curve)
    half = (len(steps) - 1) // 2
    if not half:
        return None
    first, middle, now = steps[-1 - 2 * half], steps[-1 - half], steps[-1]
    best = min((sign * value for value in curve.values() if not math.isnan(value)), default=math.nan)
    gain_before, gain = sign * (curve[first] - curve[middle]), sign * (curve[middle] - curve[now])
    ahead = last - now
    if not gain > 0 or ahead <= 0:  # no longer improving (or NaN): it will not get better than it was
        return None if math.isnan(best) else best
    slope_before, slope = gain_before / (middle - first), gain / (now - middle)
    return best - _gain_ahead(slope_before, slope, flattening * 2 / (now - first), now - middle, ahead)


def _gain_ahead(slope_before: float, slope: float, share: float, steps: int, ahead: int) -> float:
    """By how much a curve improves in its next steps; infinitely where its slope is.

    Args:
        slope_before, slope: Improvement for each step in the first and in the second half, above 0.
        share: What the logarithm of their ratio is multiplied with: the rate at which the slope shrinks.
        steps: How many the second half has.
        ahead: How many are to come, at least 1.
    """
    shrinks = 0 < slope < slope_before < math.inf  # not the other ones, nor NaN, nor a gain too small for a slope
    rate = share * (math.log(slope_before) - math.log(slope)) if shrinks else 0.0
    if rate * max(steps, ahead) < STRAIGHT:
        return slope * ahead
    # expm1(x) instead of exp(x) - 1, which rounds to 0 for a curve that is almost straight: a division by zero.
    stretch = rate * steps
    return slope * steps * math.exp(-stretch) * math.expm1(-rate * ahead) / math.expm1(-stretch)
