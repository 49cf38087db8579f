"""One parameter of a search space as TPE sees it: points on a bounded axis, and the kernels around them.

A kernel of a number is a normal distribution that is cut off at the ends of the axis. Its width depends on how far the
neighbouring points are. The more trials there are, the more kernels have the smallest width; so what depends on a
point and on that width alone is computed once for each trial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution, IntDistribution
from scipy.special import ndtr

Floats = NDArray[np.float64]
Numbers = NDArray[np.intp]

EPS = 1e-12  # the smallest width that Optuna lets a kernel have
NARROW = 100.0  # with Optuna's "magic clip" no kernel is narrower than the axis divided by this


class Width(NamedTuple):
    """How wide kernels are: two options of Optuna's TPESampler."""

    magic_clip: bool
    endpoints: bool


@dataclass(frozen=True)
class Kernels:
    """The kernels of one number: one for each trial, in the trials' order, and the prior as the last.

    Attributes:
        means, widths: (n + 1,) on the axis.
        log_mass: (n + 1,) logarithm of the part of each normal distribution that lies on the axis.
        smallest: The smallest width of a trial's kernel.
    """

    means: Floats
    widths: Floats
    log_mass: Floats
    smallest: float


class Axis:
    """The axis of a number: its ends, and of each trial the point that stands for the parameter's value.

    Args:
        distribution: The parameter's distribution. With `log`, the axis is logarithmic; with a step, each value is the
            middle of a cell.

    Attributes:
        low, high: The ends of the axis.
        points: (n,) of each trial, by its number; NaN if the trial lacks the parameter.
    """

    def __init__(self, distribution: FloatDistribution | IntDistribution) -> None:
        self.distribution = distribution
        half = (distribution.step or 0) / 2
        ends = self.place(np.array([distribution.low - half, distribution.high + half]))
        self.low, self.high = ends.tolist()
        self.points = np.zeros(0)
        self._values = np.zeros(0)
        self._narrow, self._log_mass = (self.high - self.low) / NARROW, np.zeros(0)  # of kernels with this width
        self._middle = np.array([(self.low + self.high) / 2])
        self._prior_log_mass = self.log_mass(self._middle, self.high - self.low)
        self._ranked = np.zeros(0, dtype=np.intp)  # numbers of the trials, by their points

    def place(self, values: Floats) -> Floats:
        """Where values lie on the axis."""
        placed: Floats = np.log(values) if self.distribution.log else values
        return placed

    def look_at(self, values: Floats) -> None:
        """Take the values of all trials, of which most are known already.

        Args:
            values: (n,) values by number; NaN where a trial lacks the parameter.
        """
        if len(values) > len(self._values):
            more = len(values) - len(self._values)
            self._values, self.points, self._log_mass = (
                np.pad(known, (0, more), constant_values=np.nan)
                for known in (self._values, self.points, self._log_mass)
            )
            self._ranked = np.concatenate([self._ranked, np.arange(len(values) - more, len(values))])
        # Bits are compared because NaN does not equal itself.
        changed = np.flatnonzero(self._values.view(np.int64) != values.view(np.int64))
        if len(changed):
            self._values[changed] = values[changed]
            self.points[changed] = self.place(values[changed])
            self._log_mass[changed] = self.log_mass(self.points[changed], self._narrow)
            # A stable sort takes little time where nearly all is in order.
            self._ranked = self._ranked[np.argsort(self.points[self._ranked], kind="stable")]

    def kernels(self, numbers: Numbers, width: Width) -> Kernels | None:
        """The kernels of these trials.

        Args:
            numbers: (n,) numbers of trials that have the parameter, ascending.
            width: How wide kernels are.

        Returns:
            None if a point lies beyond an end of the axis: the trial had another distribution.
        """
        points = self.points[numbers]
        if len(points) and not (self.low <= points.min() and points.max() <= self.high):
            return None
        span = self.high - self.low
        smallest = span / min(NARROW, len(points) + 2.0) if width.magic_clip else EPS
        widths = np.clip(self._gaps(points, numbers, width.endpoints), smallest, span)
        log_mass = self._log_mass[numbers]
        wide = np.flatnonzero(widths != self._narrow)
        log_mass[wide] = self.log_mass(points[wide], widths[wide])
        return Kernels(
            np.concatenate([points, self._middle]),
            np.concatenate([widths, [span]]),
            np.concatenate([log_mass, self._prior_log_mass]),
            smallest,
        )

    def _gaps(self, points: Floats, numbers: Numbers, endpoints: bool) -> Floats:
        """(n,) the larger of the distances of each point to its two neighbours, of which the ends are two."""
        order = self._order(points, numbers)
        line = np.concatenate([[self.low], points[order], [self.high]])
        steps = line[1:] - line[:-1]
        larger = np.maximum(steps[:-1], steps[1:])
        if not endpoints and len(line) >= 4:
            larger[0], larger[-1] = steps[1], steps[-2]
        gaps = np.empty(len(points))
        gaps[order] = larger
        return gaps

    def _order(self, points: Floats, numbers: Numbers) -> Numbers:
        if self.distribution.step is not None:
            return np.argsort(points)  # as Optuna: which of equal points is the outer one depends on the sort
        rows = np.full(len(self.points), -1, dtype=np.intp)
        rows[numbers] = np.arange(len(numbers))
        ranked = rows[self._ranked]
        return ranked[ranked >= 0]

    def log_mass(self, means: Floats, widths: Floats | float) -> Floats:
        """Logarithm of the part of normal distributions that lies on the axis; the means do."""
        with np.errstate(divide="ignore", invalid="ignore"):
            mass: Floats = np.log(ndtr((self.high - means) / widths) - ndtr((self.low - means) / widths))
        return mass
