"""The plots of a study's report, drawn by `optuna.visualization`, each with a bounded size.

So the page of a long study is about as large as that of a short one. Of more trials than `MAX_POINTS` (`MAX_LINES` if a
trial is a line), a plot shows the notable ones and an even sample of the rest.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import optuna
import optuna.visualization as vis
import plotly.graph_objects as go
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import TrialState

from optuna_spark.results.best import found_by, metric_names
from optuna_spark.results.snapshot import quiet, with_trials
from tuning_pipeline.exports.report.plot_data import (
    complete_trials,
    objective_views,
    param_names,
    plain_study,
    rank_by,
    records,
    renumbered,
    thin_out,
)

log = logging.getLogger(__name__)

# Limits on what a plot shows. A browser draws more of it only slowly, and a person can no longer read it.
MAX_POINTS = 1000
MAX_LINES = 150
MAX_STEPS = 200
MAX_PARAMS = 16
SLICES_PER_ROW = 4
MIN_TRIALS_FOR_IMPORTANCE = 10
STATE_COLORS = {
    "COMPLETE": "#1f5fa8",
    "PRUNED": "#e8a33d",
    "FAIL": "#cc3d3d",
    "RUNNING": "#3d9970",
    "WAITING": "#9aa5b1",
}


class NothingToPlotError(Exception):
    """A plot makes no sense for this study. The report shows the message in its place."""


@dataclass(frozen=True)
class Section:
    """A section of the report: its heading, and its figures or the reason why there are none."""

    title: str
    caption: str
    figures: tuple[go.Figure, ...] = ()
    missing: str = ""


def draw_sections(study: optuna.Study, run_key: str = "") -> list[Section]:
    """Draw all plots of the report. A plot that fails is logged, and a sentence takes its place.

    Args:
        study: The study.
        run_key: The key of the run, whose trials the timeline shows.
    """
    plain = plain_study(study, MAX_STEPS)
    of_run = {t.number for t in study.get_trials(deepcopy=False) if found_by(t) == run_key}
    views = objective_views(plain)
    draws: list[tuple[str, str, Callable[[], Sequence[go.Figure]]]] = [
        ("History", "The value of each trial, and the best so far.", lambda: _histories(views)),
        (
            "Parameter importance",
            "How much each parameter decides whether a trial is among the best tenth: PED-ANOVA, as in the Optuna"
            " dashboard.",
            lambda: _importances(views),
        ),
        ("Slices", "The value over each parameter; darker points are later trials.", lambda: _slices(views)),
        ("Contour", "The value over the two most important parameters.", lambda: _contours(views)),
        ("Rank", "The same, each trial coloured by its rank.", lambda: _ranks(views)),
        ("Distribution of values", "The share of trials up to each value (EDF).", lambda: _edfs(views)),
        ("Parallel coordinates", "One line per trial.", lambda: [_parallel(plain, views)]),
        ("Intermediate values", "What each trial reported on its way.", lambda: [_intermediate(plain)]),
        ("Timeline", "When each trial of this run ran, and how it ended.", lambda: [_timeline(plain, of_run)]),
    ]
    if len(views) > 1:
        front = "The trials that no other trial beats in every value."
        draws.insert(0, ("Pareto front", front, lambda: [_front(plain, views)]))
        volume = "How much of the space of values the trials so far dominate, from the worst value of each on."
        draws.insert(1, ("Hypervolume history", volume, lambda: [_hypervolume(plain)]))
    return [drawn(*draw) for draw in draws]


def drawn(title: str, caption: str, draw: Callable[[], Sequence[go.Figure]]) -> Section:
    """A section with its figures. A plot that fails is logged, and a sentence takes its place."""
    try:
        return Section(title, caption, tuple(_styled(figure) for figure in draw()))
    except NothingToPlotError as error:
        return Section(title, caption, missing=str(error))
    except Exception as error:  # a fault in one plot must not cost the user the whole export
        log.warning("The report's plot %r could not be drawn", title, exc_info=True)
        return Section(title, caption, missing=f"This plot could not be drawn ({type(error).__name__}: {error}).")


def _styled(figure: go.Figure) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        font={"family": "system-ui, sans-serif", "size": 13},
        margin={"l": 70, "r": 30, "t": 50, "b": 60},
        width=None,
        autosize=True,
        # The page's own colours shine through, also in the dark.
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"bgcolor": "rgba(0,0,0,0)"},
        colorway=["#1f5fa8", "#cc3d3d", "#e8a33d", "#3d9970", "#7a5ea8", "#5b6675"],
    )
    return figure


def _histories(views: Sequence[optuna.Study]) -> list[go.Figure]:
    return [_history(view) for view in views]


def _history(view: optuna.Study) -> go.Figure:
    if not complete_trials(view):
        raise NothingToPlotError("No complete trial has a finite value.")
    shown = thin_out(view.get_trials(deepcopy=False), records(view), MAX_POINTS)
    figure = vis.plot_optimization_history(with_trials(view, renumbered(shown)), target_name=_name(view))
    # Optuna used the index of each trial as its place on the x axis. Put the trial's real number there.
    figure.for_each_trace(lambda trace: trace.update(x=[shown[i].number for i in trace.x]))
    return figure.update_layout(title=None, height=380)


def _importances(views: Sequence[optuna.Study]) -> list[go.Figure]:
    return [_importance(view) for view in views]


def _importance(view: optuna.Study) -> go.Figure:
    _check_importance(view)
    params = _main_params(view)
    evaluator = PedAnovaImportanceEvaluator()
    figure = vis.plot_param_importances(view, evaluator, params, target_name=_name(view))
    height = 130 + 26 * len(params)
    return figure.update_layout(
        title=None,
        height=height,
        xaxis_title=f"Importance for {_name(view)}",
        yaxis={"title": None, "automargin": True, "ticksuffix": "  "},
    )


def _check_importance(view: optuna.Study) -> None:
    complete = complete_trials(view)
    if len(complete) < MIN_TRIALS_FOR_IMPORTANCE:
        raise NothingToPlotError(
            f"Importance needs at least {MIN_TRIALS_FOR_IMPORTANCE} complete trials; there are {len(complete)}."
        )
    if len({t.value for t in complete}) == 1:
        raise NothingToPlotError("All trials have the same value, so no parameter matters more than another.")
    _need_params(view)


def _slices(views: Sequence[optuna.Study]) -> list[go.Figure]:
    return [figure for view in views for figure in _slice_rows(view)]


def _slice_rows(view: optuna.Study) -> list[go.Figure]:
    _need_params(view)
    names = _main_params(view)
    shown = with_trials(view, thin_out(complete_trials(view), records(view), MAX_POINTS))
    rows = [names[i : i + SLICES_PER_ROW] for i in range(0, len(names), SLICES_PER_ROW)]
    # One figure for each row: Optuna would put all parameters side by side, each too narrow to read.
    figures = [vis.plot_slice(shown, row, target_name=_name(view)) for row in rows]
    return [figure.update_layout(title=None, height=330) for figure in figures]


def _contours(views: Sequence[optuna.Study]) -> list[go.Figure]:
    return [_contour(view) for view in views]


def _contour(view: optuna.Study) -> go.Figure:
    names = _two_params(view)
    # Each trial is a line and a column of the grid that Optuna draws.
    shown = with_trials(view, thin_out(complete_trials(view), records(view), MAX_LINES))
    return vis.plot_contour(shown, names, target_name=_name(view)).update_layout(title=None, height=460)


def _ranks(views: Sequence[optuna.Study]) -> list[go.Figure]:
    return [_rank(view) for view in views]


def _rank(view: optuna.Study) -> go.Figure:
    names = _two_params(view)
    shown = with_trials(view, thin_out(complete_trials(view), records(view), MAX_POINTS))
    return vis.plot_rank(shown, names, target_name=_name(view)).update_layout(title=None, height=460)


def _two_params(view: optuna.Study) -> list[str]:
    """The two parameters that decide most; the first two where that cannot be known."""
    _need_params(view)
    names = param_names(view)
    if len(names) < 2:
        raise NothingToPlotError("The trials have one parameter only.")
    return names if len(names) == 2 else _ranked_params(view)[:2]


def _edfs(views: Sequence[optuna.Study]) -> list[go.Figure]:
    return [_edf(view) for view in views]


def _edf(view: optuna.Study) -> go.Figure:
    if not complete_trials(view):
        raise NothingToPlotError("No complete trial has a finite value.")
    return vis.plot_edf(view, target_name=_name(view)).update_layout(title=None, height=360, showlegend=False)


def _hypervolume(study: optuna.Study) -> go.Figure:
    if len(study.directions) > 3:
        raise NothingToPlotError(
            f"The hypervolume is drawn for 2 or 3 values, because its cost grows fast; this study has"
            f" {len(study.directions)}."
        )
    finite = with_trials(study, [t for t in complete_trials(study) if all(map(math.isfinite, t.values))])
    trials = finite.get_trials(deepcopy=False)
    if not trials:
        raise NothingToPlotError("No complete trial has finite values.")
    shown = with_trials(study, renumbered(thin_out(trials, finite.best_trials, MAX_LINES)))
    values = zip(*(t.values for t in trials), strict=True)
    worst = [
        min(found) if direction == StudyDirection.MAXIMIZE else max(found)
        for direction, found in zip(study.directions, values, strict=True)
    ]
    with quiet():
        figure = vis.plot_hypervolume_history(shown, worst)
    numbers = [t.number for t in thin_out(trials, finite.best_trials, MAX_LINES)]
    figure.for_each_trace(lambda trace: trace.update(x=[numbers[i] for i in trace.x]))
    return figure.update_layout(title=None, height=380)


def _parallel(study: optuna.Study, views: Sequence[optuna.Study]) -> go.Figure:
    _need_params(views[0])
    finite = [t for t in complete_trials(study) if all(map(math.isfinite, t.values))]
    best = [t for view in views for t in sorted(complete_trials(view), key=rank_by(view))[:10]]
    shown = with_trials(study, thin_out(finite, best, MAX_LINES))
    figure = vis.plot_parallel_coordinate(shown, _main_params(views[0]), target_name=_name(views[0]))
    return figure.update_layout(title=None, height=460)


def _intermediate(study: optuna.Study) -> go.Figure:
    if len(study.directions) > 1:
        raise NothingToPlotError("Trials of a study with several directions cannot report intermediate values.")
    reported = [t for t in study.get_trials(deepcopy=False) if t.intermediate_values]
    if not reported:
        raise NothingToPlotError("No trial reported an intermediate value.")
    best = sorted((t for t in reported if t.state == TrialState.COMPLETE), key=rank_by(study))[:10]
    shown = with_trials(study, thin_out(reported, best, MAX_LINES))
    return vis.plot_intermediate_values(shown).update_layout(title=None, height=420)


def _timeline(study: optuna.Study, of_run: Container[int]) -> go.Figure:
    trials = [t for t in study.get_trials(deepcopy=False) if t.number in of_run]
    started = [t for t in trials if t.datetime_start is not None]
    if not started:
        raise NothingToPlotError("No trial of this run has a start time.")
    shown = with_trials(study, thin_out(started, [], MAX_POINTS))
    figure = vis.plot_timeline(shown).update_layout(title=None, height=420)
    return figure.for_each_trace(_color_bars)


def _color_bars(bars: go.Bar) -> None:
    """Colour the bars of a state, with an outline: it keeps a short trial visible in the timeline of a long study."""
    color = STATE_COLORS.get(bars.name, bars.marker.color)
    bars.update(marker={"color": color, "line": {"color": color, "width": 1.5}})


def _front(study: optuna.Study, views: Sequence[optuna.Study]) -> go.Figure:
    if len(views) > 3:
        raise NothingToPlotError(f"A Pareto front can be drawn for 2 or 3 values; this study has {len(views)}.")
    finite = with_trials(study, [t for t in complete_trials(study) if all(map(math.isfinite, t.values))])
    shown = with_trials(study, thin_out(finite.get_trials(deepcopy=False), finite.best_trials, MAX_POINTS))
    figure = vis.plot_pareto_front(shown, target_names=[_name(view) for view in views])
    return figure.update_layout(title=None, height=520)


def _name(view: optuna.Study) -> str:
    return metric_names(view)[0]


def _need_params(view: optuna.Study) -> None:
    if not complete_trials(view):
        raise NothingToPlotError("No complete trial has a finite value.")
    if not param_names(view):
        raise NothingToPlotError("The trials have no parameters.")


def _main_params(view: optuna.Study) -> list[str]:
    """The parameters to draw: all, or the most important ones if there are more than `MAX_PARAMS`."""
    names = param_names(view)
    return names if len(names) <= MAX_PARAMS else _ranked_params(view)[:MAX_PARAMS]


# Several plots ask for the same order, which takes seconds for many parameters.
_RANKED: WeakKeyDictionary[optuna.Study, list[str]] = WeakKeyDictionary()


def _ranked_params(view: optuna.Study) -> list[str]:
    """All parameters, the most important first; in their own order where no importance can be told."""
    if view not in _RANKED:
        _RANKED[view] = _rank_params(view)
    return _RANKED[view]


def _rank_params(view: optuna.Study) -> list[str]:
    names = param_names(view)
    complete = complete_trials(view)
    if len(complete) < MIN_TRIALS_FOR_IMPORTANCE or len({t.value for t in complete}) == 1:
        return names
    # A sample is enough to rank parameters, and keeps the time within bounds.
    sample = with_trials(view, thin_out(complete, [], MAX_POINTS))
    ranked = list(get_param_importances(sample, evaluator=PedAnovaImportanceEvaluator()))
    return [*ranked, *(name for name in names if name not in ranked)]
