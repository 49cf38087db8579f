"""The report: a study as one HTML page that needs no other file and no network."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.results.best import best_trials, direction_name, found_by, metric_names, state_counts
from optuna_spark.results.failure_reasons import failure_reasons
from optuna_spark.storage.trial_marks import error_of
from tuning_pipeline.exports.report.model_plots import model_sections
from tuning_pipeline.exports.report.page_policy import CONTENT_POLICY, PALETTE, SHARED_POLICY
from tuning_pipeline.exports.report.plot_data import param_names
from tuning_pipeline.exports.report.plotly_script import embedded, shared
from tuning_pipeline.exports.report.plots import MAX_LINES, MAX_PARAMS, MAX_POINTS, Section, draw_sections

MAX_BEST_TRIALS, MAX_REASONS = 20, 20

# Turns off the button that would upload the figure to Plotly's service.
_PLOT_CONFIG = {"displaylogo": False, "responsive": True, "showSendToCloud": False, "plotlyServerURL": ""}

# Inside Airflow the policy is also in the HTTP header. The one in the page is for a report that is opened as a file.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
{script}
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = (
    PALETTE
    + """
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
header p, .note { color: var(--soft); margin: 2px 0; }
h1 { font-size: 26px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; margin-top: 18px;
  padding: 18px 20px; overflow-x: auto; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin-top: 18px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); gap: 0 18px;
  align-items: start; }
.pair > * { min-width: 0; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.card b { display: block; color: var(--accent); font-size: 22px; font-weight: 600; overflow-wrap: anywhere; }
.card span { color: var(--soft); }
table { border-collapse: collapse; margin-top: 10px; }
th, td { border-bottom: 1px solid var(--line); padding: 5px 18px 5px 0; text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 500; }
td { font-variant-numeric: tabular-nums; white-space: nowrap; }
.missing { color: var(--soft); font-style: italic; margin: 10px 0 0; }
/* On a phone a section scrolls sideways: a plot has to have some width to be read. */
@media (max-width: 640px) { main { padding: 14px 8px 40px; } section { padding: 12px; } h1 { font-size: 20px; }
  .js-plotly-plot { min-width: 600px; } }
/* Plotly knows no colours of the dark: what is light there becomes dark, and keeps its hue. */
@media (prefers-color-scheme: dark) { .js-plotly-plot { filter: invert(0.92) hue-rotate(180deg); } }
"""
)


def render_report(
    study: optuna.Study,
    run_id: str,
    top_k: int = 10,
    run_key: str = "",
    *,
    note: str = "",
    score_note: str = "",
    test_values: Sequence[float] = (),
    model: Mapping[str, bytes] | None = None,
    shared_script: bool = False,
) -> str:
    """Render the report page of a study.

    Args:
        study: The study, with at least one complete trial. Its trials are read several times, so pass a snapshot rather
            than a study in a database.
        run_id: The run that made this report.
        top_k: How many of the best trials to list, up to `MAX_BEST_TRIALS`.
        run_key: The key of the run, which its trials have; by default the same as `run_id`.
        note: A sentence for the top of the page.
        score_note: A sentence on how honest the best value is.
        test_values: The final model's values on rows that no trial saw, one for each direction; empty without a score.
        model: The files of the final model, by name; None without one.
        shared_script: Whether to load Plotly's script from the file beside all exports.

    Raises:
        ExportError: The study has no complete trial.
    """
    best = best_trials(study, top_k)
    trials = study.get_trials(deepcopy=False)
    body = "\n".join(
        [
            _header(study, run_id),
            f'<p class="note"><b>{html.escape(note)}</b></p>' if note else "",
            f'<p class="note">{html.escape(score_note)}</p>' if score_note else "",
            _cards(study, best[0], trials, run_key or run_id, test_values),
            f'<div class="pair">{_params(best[0], len(study.directions))}{_states(trials, run_key or run_id)}</div>',
            _best_table(study, best),
            _failures(trials, run_key or run_id),
            *_sections([*model_sections(model or {}), *draw_sections(study, run_key or run_id)]),
        ]
    )
    title = html.escape(f"Study {study.study_name}")
    return _PAGE.format(
        title=title,
        policy=SHARED_POLICY if shared_script else CONTENT_POLICY,
        style=_STYLE,
        script=shared() if shared_script else embedded(),
        body=body,
    )


def _header(study: optuna.Study, run_id: str) -> str:
    directions = ", ".join(direction_name(d) for d in study.directions)
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return (
        f"<header><h1>Study {html.escape(study.study_name)}</h1>"
        f"<p>{directions} &middot; run {html.escape(run_id)} &middot; written {html.escape(written)}</p>"
        f"{_limits(len(study.get_trials(deepcopy=False)), len(param_names(study)))}</header>"
    )


def _limits(n_trials: int, n_params: int) -> str:
    """A note on what the plots leave out; empty if they show everything."""
    limits = []
    if n_trials > MAX_POINTS:
        limits.append(f"plots of points show at most {MAX_POINTS:,} trials")
    if n_trials > MAX_LINES:
        limits.append(f"plots of lines at most {MAX_LINES:,} trials (the best and an even sample of the others)")
    if n_params > MAX_PARAMS:
        limits.append(f"plots of parameters the {MAX_PARAMS} most important of {n_params}")
    if not limits:
        return ""
    return f'<p class="note">To stay readable, {", ".join(limits)}. The tables beside this page hold all.</p>'


def _cards(
    study: optuna.Study,
    best: FrozenTrial,
    trials: Sequence[FrozenTrial],
    run_key: str,
    test_values: Sequence[float],
) -> str:
    names = metric_names(study)
    prefix = "best " if len(names) == 1 else "first of the Pareto front: "
    cards = [(number(value), prefix + name) for name, value in zip(names, best.values, strict=True)]
    cards += [
        (number(test), f"{name} on test rows, {test - value:+.3g}")
        for name, test, value in zip(names, test_values, best.values, strict=bool(test_values))
    ]
    cards += [(f"#{best.number}", "its trial"), (f"{len(trials):,}", "trials of the study")]
    if len(names) == 1:
        cards.append(("yes" if found_by(best) == run_key else "no", "improved by this run"))
    items = (f'<div class="card"><b>{html.escape(b)}</b><span>{html.escape(s)}</span></div>' for b, s in cards)
    return f'<div class="cards">{"".join(items)}</div>'


def _params(best: FrozenTrial, n_values: int) -> str:
    title = "Best parameters" if n_values == 1 else f"Parameters of trial {best.number}"
    rows = [[name, text(value)] for name, value in best.params.items()]
    return f"<section><h2>{title}</h2>{_table(['parameter', 'value'], rows)}</section>"


def _states(trials: Sequence[FrozenTrial], run_key: str) -> str:
    study = state_counts(trials)
    run = state_counts(t for t in trials if found_by(t) == run_key)
    rows = [[state.lower(), f"{n:,}", f"{run.get(state, 0):,}"] for state, n in study.items()]
    return f"<section><h2>Trials by state</h2>{_table(['state', 'study', 'this run'], rows)}</section>"


def _failures(trials: Sequence[FrozenTrial], run_key: str) -> str:
    failed = [t for t in reversed(trials) if t.state == TrialState.FAIL and found_by(t) == run_key]
    reasons = failure_reasons((t.number, error_of(t) or "") for t in failed)
    rows = [[f"{r.count:,}", r.error, r.place, str(r.trial)] for r in reasons[:MAX_REASONS]]
    if not rows:
        return ""
    table = _table(["trials", "error", "where", "newest trial"], rows)
    return f"<section><h2>Why trials of this run failed</h2>{table}</section>"


def _best_table(study: optuna.Study, best: Sequence[FrozenTrial]) -> str:
    shown = best[:MAX_BEST_TRIALS]
    n = len(study.directions)
    title = "Pareto front" if n > 1 else f"Best {len(shown)} trials"
    note = f'<p class="note">The first {len(shown)} of {len(best)} trials.</p>' if len(best) > len(shown) else ""
    params = list(dict.fromkeys(name for trial in shown for name in trial.params))
    rows = [
        [str(t.number), *map(number, t.values), *(text(t.params[p]) if p in t.params else "" for p in params)]
        for t in shown
    ]
    return f"<section><h2>{title}</h2>{note}{_table(['trial', *metric_names(study), *params], rows)}</section>"


def _sections(sections: Iterable[Section]) -> list[str]:
    return [_section(section, index) for index, section in enumerate(sections)]


def _section(section: Section, index: int) -> str:
    figures = "".join(
        figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            config=_PLOT_CONFIG,
            div_id=f"plot-{index}-{i}",
        )
        for i, figure in enumerate(section.figures)
    )
    content = figures or f'<p class="missing">{html.escape(section.missing)}</p>'
    return (
        f'<section><h2>{html.escape(section.title)}</h2><p class="note">{html.escape(section.caption)}</p>'
        f"{content}</section>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def number(value: float) -> str:
    """A value for people, with six significant digits."""
    return f"{value:.6g}"


def text(value: Any) -> str:
    """A parameter for people: a float with six significant digits, everything else as it is."""
    return number(value) if isinstance(value, float) else str(value)
