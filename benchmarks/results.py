"""Collects measurements, reduces them to medians, prints them as a table, and stores them as JSON."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

Value = float | str
# How near an engine should come to one that costs nothing, and the fewest runs that tell.
COSTLESS, COSTLESS_RUNS = 0.95, 7


@dataclass(frozen=True)
class Measurement:
    """One number of the benchmark, as in results/latest.json."""

    case: str
    contender: str
    metric: str
    value: Value


class Samples:
    """The measurements of all runs of one case, before they are reduced."""

    def __init__(self, case: str) -> None:
        self.case = case
        self._values: dict[tuple[str, str], list[float]] = {}
        self._texts: list[Measurement] = []

    def add(self, contender: str, measured: Mapping[str, float]) -> None:
        """Add the metrics of one run."""
        for metric, value in measured.items():
            self._values.setdefault((contender, metric), []).append(float(value))

    def note(self, contender: str, metric: str, text: Value) -> None:
        """Add a fact that is not measured in each run, such as a time limit or a date."""
        self._texts.append(Measurement(self.case, contender, metric, text))

    def median(self, contender: str, metric: str) -> float | None:
        values = self.values(contender, metric)
        return statistics.median(values) if values else None

    def total(self, contender: str, metric: str) -> float | None:
        values = self.values(contender, metric)
        return math.fsum(values) if values else None

    def values(self, contender: str, metric: str) -> list[float]:
        """One value for each run, in the order of the runs."""
        return self._values.get((contender, metric), [])

    def measurements(self) -> list[Measurement]:
        """The medians, with the number of runs of each contender."""
        reduced = [
            Measurement(self.case, contender, metric, round(statistics.median(values), 6))
            for (contender, metric), values in self._values.items()
        ]
        counts: dict[str, int] = {}
        for (contender, _), values in self._values.items():
            counts[contender] = max(counts.get(contender, 0), len(values))
        return reduced + [Measurement(self.case, c, "runs", n) for c, n in counts.items()] + self._texts


@dataclass(frozen=True)
class Table:
    """A case in the form in which it is printed."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdicts: Sequence[str] = ()

    def text(self) -> str:
        widths = [max(len(row[i]) for row in (self.columns, *self.rows)) for i in range(len(self.columns))]
        lines = [self.title]
        lines += [_line(row, widths) for row in (self.columns, ["-" * width for width in widths], *self.rows)]
        return "\n".join([*lines, *(f"  {verdict}" for verdict in self.verdicts), ""])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
    return "  " + "  ".join(cells).rstrip()


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    return "" if value is None else f"{value:.{digits}f}{unit}"


def divided(value: float | None, base: float | None) -> float | None:
    """`value` divided by `base`; None if one of them was not measured."""
    return value / base if value and base else None


def ratio(value: float | None, base: float | None) -> str:
    """`value` as a multiple of `base`, for a table; empty if one of them was not measured."""
    return number(divided(value, base), 2, "x")


def verdict(what: str, value: float | None, limit: float, *, at_most: bool) -> str:
    """A line that says whether a target is reached."""
    if value is None:
        return f"not measured: {what}"
    reached = value <= limit if at_most else value >= limit
    sign = "<=" if at_most else ">="
    return f"{'reached' if reached else 'MISSED'}: {what}: {value:.3g} (target {sign} {limit:g})"


def costless_verdict(samples: Samples, contender: str) -> str:
    """A line on how near a contender comes to an engine that costs nothing (`of_costless`), by the median of its runs.

    A few runs say little: one busy second of the machine is a tenth of the time.
    """
    runs = len(samples.values(contender, "of_costless"))
    what = f"{contender}, share of an engine that costs nothing, start included, median of {runs} runs"
    line = verdict(what, samples.median(contender, "of_costless"), COSTLESS, at_most=False)
    return line if not 0 < runs < COSTLESS_RUNS else f"{line}; the target is for RUNS={COSTLESS_RUNS} or more"


def save(file: Path, fresh: Iterable[Measurement]) -> None:
    """Write the measurements to a file. Cases that were not run keep their earlier ones."""
    fresh = list(fresh)
    replaced = {measurement.case for measurement in fresh}
    old = json.loads(file.read_text()) if file.exists() else []
    rows = [row for row in old if row["case"] not in replaced] + [asdict(measurement) for measurement in fresh]
    rows.sort(key=lambda row: row["case"])
    file.parent.mkdir(exist_ok=True)
    # One measurement a line, so that a diff shows what has changed.
    file.write_text("[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n]\n")
