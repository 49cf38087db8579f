"""The tab of a run as HTML: it needs no script, and loads itself anew while the run goes on."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from optuna_spark.shown import duration
from tuning_pipeline.database.run_numbers import MAX_ERRORS, RunNumbers
from tuning_pipeline.exports.report.history_plot import history_plot
from tuning_pipeline.pages.live_run import LiveRun
from tuning_pipeline.pages.style import STYLE

# Seconds between two looks. A look at 50,000 trials takes a database about a second, so a long study is looked at less.
REFRESH_S, LONG, LONG_REFRESH_S = 5, 10_000, 20
STATES = ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")


@dataclass(frozen=True)
class Links:
    """Addresses on the tab. An empty one is not shown.

    Attributes:
        study: The study in the Optuna dashboard.
        report: The run's report.
        finish: Where the button *Finish now* posts to.
        problem: Why the study cannot be read; empty if it can.
        waits: What the run waits for outside the study; empty if for nothing.
    """

    study: str = ""
    report: str = ""
    finish: str = ""
    problem: str = ""
    waits: str = ""


def live_page(live: LiveRun, links: Links) -> str:
    """The whole page."""
    parts = [
        _header(live),
        *(f'<section><pre class="bad">{html.escape(card)}</pre></section>' for card in live.cards),
        _sentences(live, links),
        *(_numbers(live, live.numbers) if live.numbers is not None else []),
        _tasks(live),
        _button(live, links),
    ]
    again = "" if live.is_over else f'<meta http-equiv="refresh" content="{_refresh_s(live)}">'
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{again}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Study {html.escape(live.run.place.study)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>"
    )


def _refresh_s(live: LiveRun) -> int:
    trials = sum(live.numbers.study.values()) if live.numbers is not None else 0
    return LONG_REFRESH_S if trials > LONG else REFRESH_S


def _header(live: LiveRun) -> str:
    run = live.run
    word = {"failed": "The run failed", "success": "The run ended well"}.get(run.state, f"The run is {run.state}")
    if live.skipped:
        word = "Nothing was tuned"
    return (
        f"<header><h1>Study {html.escape(run.place.study)}</h1>"
        f'<p><b>{html.escape(word)}</b> <span class="note">&middot; run {html.escape(run.run_id)}</span></p></header>'
    )


def _sentences(live: LiveRun, links: Links) -> str:
    said = [html.escape(live.skipped)] if live.skipped else []
    if live.run.state == "failed" and not live.cards:
        said.append("The log of the failed task, red in the grid, ends with the reason.")
    said += [html.escape(text) for text in (links.waits, links.problem) if text]
    if not live.run.place.database:
        said.append(_on_a_cluster(live))
    elif live.numbers is None and not live.skipped and not links.problem:
        said.append(
            "The study cannot be seen yet: prepare_study makes it." if not live.is_over else "The run has no study."
        )
    if live.early:
        said.append(f"The run {_clause(live.early)}.")
    elif live.finishing:
        said.append(
            f"{html.escape(live.finishing)} asked the run to finish: its running trials end, then it is exported."
        )
    if live.numbers is not None:
        said.append(_improved(live.numbers))
    said += [f'<a href="{html.escape(links.report)}">Report on this run\'s export</a>'] if links.report else []
    said += [f'<a href="{html.escape(links.study)}">The study in the Optuna dashboard</a>'] if links.study else []
    return f"<section>{''.join(f'<p>{text}</p>' for text in said if text)}</section>" if any(said) else ""


def _clause(early: str) -> str:
    text = html.escape(early)
    return text if text.startswith("finished") else f"ended early: {text}"


def _on_a_cluster(live: LiveRun) -> str:
    """The study is in the database of a Databricks driver, where Airflow cannot look."""
    state = next((task.state for task in live.run.tasks if task.task_id == "tune"), "waiting")
    text = f"The study is on the driver of a Databricks cluster until the run ends; task tune is {html.escape(state)}."
    if not live.workspace:
        return text
    address = html.escape(live.workspace)
    # Airflow's frame opens no window, and Databricks is shown in no frame: the address is there to be copied.
    return f'{text} Its page in the workspace: <a href="{address}" rel="noopener noreferrer">{address}</a>'


def _improved(numbers: RunNumbers) -> str:
    if len(numbers.directions) > 1:
        return "The study has several directions: the Optuna dashboard shows its Pareto front."
    if numbers.best is None:
        return "No trial is complete yet."
    if numbers.before is None:
        return "These are the study's first results."
    if numbers.improved:
        return (
            f'<span class="good">This run improved the best value from {numbers.before.value:.6g}'
            f" to {numbers.best.value:.6g}.</span>"
        )
    return f"This run has not improved the best value: {numbers.best.value:.6g}, of trial {numbers.best.trial}, stays."


def _numbers(live: LiveRun, numbers: RunNumbers) -> list[str]:
    cards = [_cards(live, numbers)]
    if len(numbers.history) > 1:
        plot = history_plot(numbers.history, maximize=numbers.directions[0] == "maximize")
        cards.append(f"<section><h2>{html.escape(numbers.metrics[0])}, {numbers.directions[0]}</h2>{plot}</section>")
    rows = [
        [state.lower(), f"{numbers.run.get(state, 0):,}", f"{numbers.study.get(state, 0):,}"]
        for state in STATES
        if numbers.study.get(state)
    ]
    cards.append(_table("Trials by state", ["state", "this run", "study"], rows) if rows else "")
    if numbers.failures:
        shown = [[f"{r.count:,}", r.error, r.place, str(r.trial)] for r in numbers.failures[:10]]
        of = f" (of the newest {MAX_ERRORS})" if numbers.run.get("FAIL", 0) > MAX_ERRORS else ""
        cards.append(_table(f"Why trials failed{of}", ["trials", "error", "where", "newest trial"], shown))
    return cards


def _cards(live: LiveRun, numbers: RunNumbers) -> str:
    cards = [(f"{numbers.finished:,} of {live.total:,}", "trials of this run")]
    if numbers.best is not None:
        cards.insert(0, (f"{numbers.best.value:.6g}", f"best {numbers.metrics[0]}, trial {numbers.best.trial}"))
    if numbers.run.get("FAIL"):
        cards.append((f"{numbers.run['FAIL']:,}", "failed"))
    if live.is_tuning:
        cards.append((f"{numbers.run.get('RUNNING', 0):,}", "running"))
        if numbers.per_s:
            cards.append((_rate(numbers.per_s), "lately"))
        if live.left_s is not None:
            cards.append((f"about {duration(live.left_s)}", "left"))
    items = (f'<div class="card"><b>{html.escape(b)}</b><span>{html.escape(s)}</span></div>' for b, s in cards)
    return f'<div class="cards">{"".join(items)}</div>'


def _rate(per_s: float) -> str:
    return f"{per_s:.2g} trials/s" if per_s >= 1 else f"{60 * per_s:.2g} trials/min"


def _tasks(live: LiveRun) -> str:
    items = (f"{html.escape(task.task_id)} <b>{html.escape(task.state)}</b>" for task in live.run.tasks)
    return f'<section><p class="note">{" &middot; ".join(items)}</p></section>' if live.run.tasks else ""


def _button(live: LiveRun, links: Links) -> str:
    if not links.finish or not live.is_tuning or live.finishing:
        return ""
    return (
        f'<section><form method="post" action="{html.escape(links.finish)}"><button>Finish now</button></form>'
        '<p class="note">Running trials end, no other begins, and what was found is exported.</p></section>'
    )


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<section><h2>{html.escape(title)}</h2><table>{line(head, 'th')}{body}</table></section>"
