"""Prepares a study's trials for the plots: a bounded number of trials, and one objective at a time."""

from __future__ import annotations

import copy
import html
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.results.best import metric_names
from optuna_spark.results.snapshot import fixed_study

T = TypeVar("T")


def plain_study(study: optuna.Study, max_steps: int) -> optuna.Study:
    """The study as the plots need it: without user attributes, with at most `max_steps` intermediate values per trial.

    Plotly interprets some HTML in every text, so all names and choices are escaped here.
    """
    names = [_escape(name) for name in metric_names(study)]
    trials = [_plain(t, max_steps) for t in study.get_trials(deepcopy=False)]
    return fixed_study(study.study_name, study.directions, names, trials)


def objective_views(study: optuna.Study) -> list[optuna.Study]:
    """One study for each objective, with only that objective's value, as Optuna's plots need it.

    Complete trials with an infinite value are left out, because they cannot be drawn.
    """
    return [_view(study, i) for i in range(len(study.directions))]


def thin_out(trials: Sequence[FrozenTrial], notable: Iterable[FrozenTrial], limit: int) -> list[FrozenTrial]:
    """At most `limit` trials, ordered by number: as many notable ones as fit, then an even sample of the rest."""
    if len(trials) <= limit:
        return list(trials)
    kept = {t.number: t for t in even_sample(list(notable), limit)}
    others = [t for t in trials if t.number not in kept]
    kept.update((t.number, t) for t in even_sample(others, limit - len(kept)))
    return [kept[number] for number in sorted(kept)]


def records(view: optuna.Study) -> list[FrozenTrial]:
    """The trials that were better than all before them: the steps in the line of the history plot."""
    rank = rank_by(view)
    found: list[FrozenTrial] = []
    for trial in complete_trials(view):
        if not found or rank(trial) < rank(found[-1]):
            found.append(trial)
    return found


def renumbered(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Copies numbered 0, 1, 2 and so on: some plots of Optuna's use a trial's number as its index in the list."""
    copies = [copy.copy(trial) for trial in trials]
    for number, trial in enumerate(copies):
        trial.number = number
    return copies


def rank_by(view: optuna.Study) -> Callable[[FrozenTrial], float]:
    """A sort key that puts the best trials first."""
    sign = -1 if view.direction == StudyDirection.MAXIMIZE else 1
    return lambda trial: sign * float(trial.values[0])


def complete_trials(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def param_names(view: optuna.Study) -> list[str]:
    return list(dict.fromkeys(name for trial in complete_trials(view) for name in trial.params))


def even_sample(items: Sequence[T], limit: int) -> Sequence[T]:
    """At most `limit` items at even distances. The last item is always among them."""
    if len(items) <= limit:
        return items
    return [items[(i + 1) * len(items) // limit - 1] for i in range(limit)]


def _view(study: optuna.Study, index: int) -> optuna.Study:
    trials = [_with_value(t, index) for t in study.get_trials(deepcopy=False) if _is_drawable(t, index)]
    return fixed_study(study.study_name, [study.directions[index]], [metric_names(study)[index]], trials)


def _is_drawable(trial: FrozenTrial, index: int) -> bool:
    return trial.state != TrialState.COMPLETE or math.isfinite(trial.values[index])


def _with_value(trial: FrozenTrial, index: int) -> FrozenTrial:
    if trial.state != TrialState.COMPLETE or len(trial.values) == 1:
        return trial
    view = copy.copy(trial)
    view.values = [trial.values[index]]
    return view


def _plain(trial: FrozenTrial, max_steps: int) -> FrozenTrial:
    plain = copy.copy(trial)  # the tables need the original
    plain.user_attrs = {}
    plain.intermediate_values = dict(even_sample(sorted(trial.intermediate_values.items()), max_steps))
    plain.distributions = {_escape(n): _escaped(d) for n, d in trial.distributions.items()}
    plain.params = {_escape(n): _escape(v) for n, v in trial.params.items()}
    return plain


def _escaped(distribution: BaseDistribution) -> BaseDistribution:
    if not isinstance(distribution, CategoricalDistribution):
        return distribution
    choices = [_escape(c) for c in distribution.choices]
    return distribution if choices == list(distribution.choices) else CategoricalDistribution(choices)


def _escape(value: Any) -> Any:
    return html.escape(value, quote=False) if isinstance(value, str) else value
