"""How much of a ratio between two contenders may be luck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from scipy import stats

Statistic = Callable[..., Any]  # of an array along `axis`, such as numpy.sum


def spread(values: Sequence[float], others: Sequence[float], statistic: Statistic) -> str:
    """The range that holds 90 % of the ratios when the seeds are resampled (bootstrap), in words; empty for one seed.

    Args:
        values: One contender's values, by seed.
        others: The other one's, with the same seeds.
        statistic: What is compared: the ratio is that of the two contenders' statistics.
    """
    if len(values) < 2 or len(values) != len(others):
        return ""
    ratios = stats.bootstrap(
        (values, others),
        lambda first, second, axis: statistic(first, axis=axis) / statistic(second, axis=axis),
        paired=True,
        vectorized=True,
        confidence_level=0.9,
        method="percentile",
        rng=0,
    ).confidence_interval
    return f"; with other seeds {ratios.low:.3f} to {ratios.high:.3f}, nine times of ten"
