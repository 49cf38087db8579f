"""A pruner of our own, beside Optuna's: it draws a learning curve on to its end."""

from __future__ import annotations

import math
from collections.abc import Mapping

from optuna import Study
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial


class ExtrapolationPruner(BasePruner):
    """Prunes a trial whose learning curve, drawn on to the last step, ends short of the best trial's.

    Pruners that compare trials at the same step lose slow learners, such as a small learning rate, which often win in
    the end; a search that can tune the learning rate then becomes worse with pruning than without. Here a trial stays
    as long as it improves fast enough.

    The two halves of the curve so far tell its present slope and how fast that flattens: an exponential through three
    points. Real curves flatten more slowly later on, so only the share `flattening` of that rate is taken. With 1 a
    curve that is exponential is drawn on exactly; with 0 as a straight line, which loses no convex curve. The default
    was chosen with other seeds than those of `make bench CASES=d`, which shows what it brings.

    Extrapolating curves to end trials early is from Domhan, Springenberg and Hutter, IJCAI 2015,
    https://www.ijcai.org/Proceedings/15/Papers/487.pdf, who fit eleven models to each curve.

    Args:
        max_resource: The last step of a trial that is not pruned. The engine knows that of the objective xgboost.
        flattening: Share of the observed rate of flattening that the rest of the curve is taken to keep, at least 0.
            Smaller keeps more trials.
        n_warmup_steps: No trial is pruned before this step; None = a tenth of `max_resource`.

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
        """Whether the trial is to end; never while nothing is known to compare it with."""
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
    """The last value the best trial reported, which a curve compares with even if the objective returns another."""
    try:
        best = study.best_trial
    except ValueError:  # no trial is complete
        return None
    return None if best.last_step is None else best.intermediate_values[best.last_step]


def extrapolated(curve: Mapping[int, float], sign: float, flattening: float, last: int) -> float | None:
    """Where a curve of (step, value) ends at step `last`, times `sign`: smaller is better.

    None for fewer than three points. From the first half of the curve to the second the slope shrinks by exp(-rate) a
    step; it is taken to go on shrinking at `flattening` times that rate.
    """
    steps = sorted(curve)
    half = (len(steps) - 1) // 2
    if not half:
        return None
    first, middle, now = steps[-1 - 2 * half], steps[-1 - half], steps[-1]
    best = min(sign * value for value in curve.values() if not math.isnan(value))
    gain_before, gain = sign * (curve[first] - curve[middle]), sign * (curve[middle] - curve[now])
    if not gain > 0:
        return best
    ahead = max(last - now, 0)
    slope_before, slope = gain_before / (middle - first), gain / (now - middle)
    rate = flattening * math.log(slope_before / slope) * 2 / (now - first) if slope_before > slope else 0.0
    if rate == 0:
        return best - slope * ahead
    # expm1, and not 1 - exp: that is 0 for a curve that is straight but for its last digit.
    stretch = rate * (now - middle)
    return best - gain * math.exp(-stretch) * math.expm1(-rate * ahead) / math.expm1(-stretch)
