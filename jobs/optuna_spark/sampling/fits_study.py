"""Whether a stored study fits a run: its directions and parameters. What does not is named before any trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
)
from optuna.trial import FrozenTrial

from optuna_spark.errors import StudyMismatchError
from optuna_spark.spec.sections import choice_text

_NEXT = "trigger with mode reset to begin anew, or use another study name"


def check_directions(name: str, wanted: Sequence[str], stored: Sequence[str]) -> None:
    """Compare a run's directions with the stored ones.

    Raises:
        StudyMismatchError: They differ.
    """
    if tuple(stored) != tuple(wanted):
        raise StudyMismatchError(
            f"study {name!r} is stored with directions {', '.join(stored)}, but the study file says"
            f" {', '.join(wanted)}: {_NEXT}"
        )


def check_search_space(
    name: str, wanted: Mapping[str, BaseDistribution], stored: Mapping[str, BaseDistribution]
) -> list[str]:
    """Compare a search space with the distributions of the stored trials.

    Optuna's samplers accept changed bounds and steps, and added or dropped parameters. They do not accept another kind,
    scale or set of choices.

    Args:
        name: Of the study.
        wanted: The declared distributions, by parameter.
        stored: The distributions of the stored trials, by parameter.

    Returns:
        A line for each difference that is allowed.

    Raises:
        StudyMismatchError: Names every parameter that does not fit, as stored and as declared.
    """
    conflicts: list[str] = []
    notes: list[str] = []
    for param in sorted(wanted.keys() & stored.keys()):
        if wanted[param] == stored[param]:
            continue
        line = _line(param, wanted[param], stored[param])
        (notes if compatible(wanted[param], stored[param]) else conflicts).append(line)
    if conflicts:
        raise StudyMismatchError(_misfit(name, conflicts))
    if stored:
        notes += [f"parameter {param} is new" for param in wanted if param not in stored]
        notes += [f"parameter {param} is no longer tuned" for param in stored if wanted and param not in wanted]
    return notes


def compatible(new: BaseDistribution, old: BaseDistribution) -> bool:
    """Whether Optuna's samplers accept both distributions for one parameter."""
    try:
        check_distribution_compatibility(old, new)
    except ValueError:
        return False
    return True


def misfit(name: str, param: str, wanted: BaseDistribution, stored: BaseDistribution) -> str:
    """The sentence for one parameter that does not fit the stored trials, of an objective that declares none."""
    return _misfit(name, [_line(param, wanted, stored)])


def stored_distributions(trials: Iterable[FrozenTrial]) -> dict[str, BaseDistribution]:
    """The distributions of the trials, by parameter; the last one if there are several."""
    found: dict[str, BaseDistribution] = {}
    for trial in trials:
        found.update(trial.distributions)
    return found


def describe(distribution: BaseDistribution) -> str:
    """A distribution, described with the words of a study file."""
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {', '.join(map(choice_text, distribution.choices))}"
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        return str(distribution)
    kind = "int" if isinstance(distribution, IntDistribution) else "float"
    step = f", step {distribution.step:g}" if distribution.step not in (None, 1) else ""
    return f"{kind} {distribution.low:g} to {distribution.high:g}{step}{', log' if distribution.log else ''}"


def _misfit(name: str, lines: Sequence[str]) -> str:
    return f"the stored trials of study {name!r} do not fit the search space: {'; '.join(lines)}: {_NEXT}"


def _line(param: str, wanted: BaseDistribution, stored: BaseDistribution) -> str:
    return f"parameter {param}: stored {describe(stored)}, now {describe(wanted)}"
