"""A mixture of kernels over a search space: draws samples from it, and rates samples by its density.

It is what `optuna.samplers._tpe.parzen_estimator._ParzenEstimator` is, to the last few of the sixteen digits. It works
on many trials at once and in blocks that fit into the processor's cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from optuna_spark.sampling.tpe_axis import Axis, Floats, Kernels, Numbers

# Kernels in a block. Products of matrices this small are computed by one thread, on the processor that asked.
BLOCK = 512
# A logarithm up to which, and down to whose negative, the exponential function has all its digits.
SAFE = 500.0
# Far below that. Processors are many times slower where the exponential function is nearly 0, so it is not asked there.
FLOOR = -600.0
# The points of a grid whose masses are computed whether a trial is there or not.
SMALL_GRID = 64


@dataclass(frozen=True)
class Choices:
    """A categorical parameter of a mixture.

    Attributes:
        count: How many choices there are.
        observed: (n,) of each trial, the index of its choice.
        prior: The weight of every choice in each kernel, before that of the trial's own choice, which is 1.
    """

    count: int
    observed: Numbers
    prior: float

    def probabilities(self) -> Floats:
        """(count + 1, count) of the choices, in the kernel of a trial with each one; the last row is the prior's."""
        weights = np.full((self.count + 1, self.count), self.prior)
        weights[np.arange(self.count), np.arange(self.count)] += 1
        sums = weights.sum(axis=1, keepdims=True)
        table: Floats = weights / np.where(sums == 0, 1, sums)
        return table

    def kernels(self) -> Numbers:
        """(n + 1,) the row of `probabilities` of each kernel."""
        return np.append(self.observed, self.count)


@dataclass(frozen=True)
class Number:
    """A numerical parameter of a mixture."""

    axis: Axis
    kernels: Kernels


Part = Choices | Number


class Mixture:
    """A weighted sum of kernels, each a product over the parameters.

    Args:
        parts: The parameters, by name, in the search space's order.
        weights: (n + 1,) weights of the kernels; they add up to 1.
    """

    def __init__(self, parts: Mapping[str, Part], weights: Floats) -> None:
        self._parts, self._weights = parts, weights

    def sample(self, rng: np.random.RandomState, size: int) -> dict[str, Floats]:
        """Draw samples, from the same random numbers as Optuna.

        Returns:
            (size,) internal values, by parameter.
        """
        kernels = rng.choice(len(self._weights), p=self._weights, size=size)
        drawn: dict[str, Floats] = {}
        for name, part in self._parts.items():
            if isinstance(part, Choices):
                drawn[name] = _draw_choices(part, kernels, rng.rand(size))
        numbers = [(name, part) for name, part in self._parts.items() if isinstance(part, Number)]
        quantiles = rng.uniform(low=0, high=1, size=(len(numbers), size))
        for (name, part), quantile in zip(numbers, quantiles, strict=True):
            drawn[name] = _draw_numbers(part, kernels, quantile)
        return {name: drawn[name] for name in self._parts}

    def log_density(self, samples: Mapping[str, Floats]) -> Floats:
        """The logarithm of the density at samples, but for a constant that two mixtures of a search space share.

        Args:
            samples: (m,) internal values, by parameter.

        Returns:
            (m,) logarithms.
        """
        constant = np.log(self._weights)
        smooth, tables = _Smooth(), []
        for name, part in self._parts.items():
            if isinstance(part, Choices):
                with np.errstate(divide="ignore"):
                    logs = np.log(part.probabilities().T)
                tables.append((logs[samples[name].astype(np.intp)], part.kernels()))
            elif part.axis.distribution.step is None:
                smooth.add(part, samples[name])
            else:
                tables.append(_cells(part, samples[name]))
        size = len(next(iter(samples.values())))
        quick = None if tables else smooth.quick_log_sum(constant)
        if quick is not None:
            return quick
        return _log_sum(*smooth.matrices(size, len(constant)), tables, constant - smooth.taken_off, size)


class _Smooth:
    """The parameters without a step: squared distances of samples to means, all by one product of matrices.

    Attributes:
        taken_off: (n + 1,) what is taken off each kernel's logarithm, the same for all samples.
    """

    taken_off: Floats | float = 0.0

    def __init__(self) -> None:
        self._left: list[Floats] = []
        self._right: list[Floats] = []
        self._heights: Floats | float = 0.0  # (n + 1,) logarithms of the kernels at their means

    def add(self, part: Number, values: Floats) -> None:
        """Add a parameter."""
        axis, kernels = part.axis, part.kernels
        span, middle = axis.high - axis.low, (axis.low + axis.high) / 2
        # From -0.5 to 0.5, so that little is lost where two large squares nearly cancel out.
        samples, means = (axis.place(values) - middle) / span, (kernels.means - middle) / span
        widths = kernels.widths / span
        precision = 1 / (widths * widths)
        slope = means * precision
        self._left += [samples * samples, samples]
        self._right += [-0.5 * precision, slope]
        height = np.log(widths) + kernels.log_mass
        self._heights = self._heights - height
        self.taken_off = self.taken_off + (0.5 * means * slope + height)

    def quick_log_sum(self, constant: Floats) -> Floats | None:
        """(m,) logarithms of the sums over all kernels, by one pass over them.

        Args:
            constant: (n + 1,) logarithms of the kernels' weights.

        Returns:
            None where a sum might be too large or too small for a number: `_log_sum` knows a way.
        """
        heights = constant + self._heights
        # No sum is larger than n times the highest kernel, nor smaller than the prior, which is as wide as its axis.
        if heights.max() > SAFE or heights[-1] - len(self._left) < -SAFE:
            return None
        left = np.array([*self._left, np.ones(len(self._left[0]))]).T
        right = np.array([*self._right, constant - self.taken_off])
        total = np.zeros(len(left))
        for start in range(0, len(constant), BLOCK):
            logs = left @ right[:, start : start + BLOCK]
            np.maximum(logs, FLOOR, out=logs)
            total += np.exp(logs, out=logs).sum(axis=1)
        summed: Floats = np.log(total)
        return summed

    def matrices(self, samples: int, kernels: int) -> tuple[Floats, Floats]:
        """Two matrices whose product (samples, kernels) is the logarithm, but for what `add` returned."""
        if not self._left:
            return np.zeros((samples, 0)), np.zeros((0, kernels))
        return np.stack(self._left, axis=1), np.stack(self._right)


def _cells(part: Number, values: Floats) -> tuple[Floats, Numbers]:
    """(m, k) logarithms of the masses of samples' cells in k different kernels, and (n + 1,) each kernel's column.

    All kernels of the smallest width around one point of the grid share a column.
    """
    axis, kernels = part.axis, part.kernels
    step, low = axis.distribution.step, axis.distribution.low
    assert step is not None
    size = round((axis.distribution.high - low) / step) + 1
    columns = np.arange(len(kernels.means))
    means, widths, log_mass = kernels.means, kernels.widths, kernels.log_mass
    if size <= max(SMALL_GRID, len(means) // 2):
        points = axis.place(low + step * np.arange(size, dtype=np.float64))
        nearest = np.minimum(np.searchsorted(points, means), size - 1)
        shared = (widths == kernels.smallest) & (points[nearest] == means)
        alone = np.flatnonzero(~shared)
        columns = np.where(shared, nearest, 0)
        columns[alone] = size + np.arange(len(alone))
        means = np.concatenate([points, means[alone]])
        widths = np.concatenate([np.full(size, kernels.smallest), widths[alone]])
        log_mass = np.concatenate([axis.log_mass(points, kernels.smallest), log_mass[alone]])
    left, right = (axis.place(values + side)[:, np.newaxis] for side in (-step / 2, step / 2))
    return _log_mass_between((left - means) / widths, (right - means) / widths) - log_mass, columns


def _log_mass_between(left: Floats, right: Floats) -> Floats:
    """Logarithm of the standard normal distribution's mass between points; minus infinity where there is hardly any."""
    beyond = left > 0  # computed at the other side, where small masses are exact
    left, right = np.where(beyond, -right, left), np.where(beyond, -left, right)
    with np.errstate(divide="ignore"):
        mass: Floats = np.log(ndtr(right) - ndtr(left))
    return mass


def _log_sum(
    left: Floats, right: Floats, tables: Sequence[tuple[Floats, Numbers]], constant: Floats, size: int
) -> Floats:
    """(m,) logarithms of the sums over all kernels, block by block; see `_Smooth.matrices` and `_cells`."""
    peak, total = np.full(size, -np.inf), np.zeros(size)
    for start in range(0, len(constant), BLOCK):
        block = slice(start, start + BLOCK)
        logs = left @ right[:, block] + constant[block]
        for table, columns in tables:
            logs += table[:, columns[block]]
        higher = np.maximum(peak, logs.max(axis=1))
        shift = np.where(np.isneginf(higher), 0.0, higher)
        logs -= shift[:, np.newaxis]
        np.maximum(logs, FLOOR, out=logs)
        total = total * np.exp(peak - shift) + np.exp(logs, out=logs).sum(axis=1)
        peak = higher
    summed: Floats = np.log(total) + peak  # minus infinity where no kernel reaches
    return summed


def _draw_choices(part: Choices, kernels: NDArray[np.int64], quantiles: Floats) -> Floats:
    cumulated: Floats = np.cumsum(part.probabilities()[part.kernels()[kernels]], axis=1)
    cumulated[:, -1] = 1  # rounding must not leave a gap
    chosen: Floats = np.sum(cumulated < quantiles[:, np.newaxis], axis=1).astype(np.float64)
    return chosen


def _draw_numbers(part: Number, kernels: NDArray[np.int64], quantiles: Floats) -> Floats:
    axis, distribution = part.axis, part.axis.distribution
    means, widths = part.kernels.means[kernels], part.kernels.widths[kernels]
    start, end = (axis.low - means) / widths, (axis.high - means) / widths
    below = ndtr(start)
    points = np.clip(ndtri(below + quantiles * (ndtr(end) - below)), start, end) * widths + means
    values: Floats = np.exp(points) if distribution.log else points
    if distribution.step is None:
        return values
    cells = np.round((values - distribution.low) / distribution.step)
    clipped: Floats = np.clip(distribution.low + cells * distribution.step, distribution.low, distribution.high)
    return clipped
