"""A small plot of a study's history as SVG, which needs no script."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 720, 200, 70, 24, 10


def history_plot(history: Sequence[tuple[int, float]], *, maximize: bool) -> str:
    """An SVG of the values, and of the best so far.

    Args:
        history: Trial's number and value, by number; at least one.
        maximize: Whether a larger value is better.
    """
    best = _best_so_far([value for _, value in history], maximize=maximize)
    low, high = _range([value for _, value in history], best, maximize=maximize)
    last = max(1, history[-1][0])

    def place(number: int, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - 10) * number / last
        share = (min(max(value, low), high) - low) / (high - low) if high > low else 0.5
        return round(x, 1), round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - share), 1)

    points = "".join(
        '<circle class="trial" cx="{}" cy="{}" r="2"/>'.format(*place(number, value)) for number, value in history
    )
    steps = _steps([place(number, value) for (number, _), value in zip(history, best, strict=True)])
    base = HEIGHT - BOTTOM
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="values of the trials, and the best so far">'
        f'<line class="axis" x1="{LEFT}" y1="{base}" x2="{WIDTH - 10}" y2="{base}"/>'
        f'<text x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end">{high:.4g}</text>'
        f'<text x="{LEFT - 6}" y="{base}" text-anchor="end">{low:.4g}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 6}">trial 0</text>'
        f'<text x="{WIDTH - 10}" y="{HEIGHT - 6}" text-anchor="end">{history[-1][0]}</text>'
        f'{points}<polyline class="best" points="{steps}"/></svg>'
    )


def _best_so_far(values: Sequence[float], *, maximize: bool) -> list[float]:
    found: list[float] = []
    for value in values:
        found.append(value if not found else (max if maximize else min)(value, found[-1]))
    return found


def _range(values: Sequence[float], best: Sequence[float], *, maximize: bool) -> tuple[float, float]:
    """What the plot shows: without the worst tenth, which would press all others into one line."""
    kept = sorted(values)
    spare = len(kept) // 10
    kept = kept[spare:] if maximize else kept[: len(kept) - spare]
    return min(*kept, *best), max(*kept, *best)


def _steps(places: Sequence[tuple[float, float]]) -> str:
    points: list[str] = []
    for place, (x, y) in enumerate(places):
        if place:
            points.append(f"{x},{places[place - 1][1]}")
        points.append(f"{x},{y}")
    return " ".join(points)
