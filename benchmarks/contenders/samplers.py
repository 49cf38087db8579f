"""Samplers that are asked and told by one process: this project's as its driver runs it, Optuna's and Rustuna's.

Each sees all trials. Imports are in the functions: no environment has all of them.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol

from optuna_spark.sampling.search_space import distributions, suggest_params
from optuna_spark.spec.sections import ParamSpec

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from optuna_spark.driver.dispatch.assignments import Now
    from optuna_spark.storage.trial_record import Refusal, TrialRecord

Space = Mapping[str, ParamSpec]
SEED = 1  # of `share_of_optunas`


class Sampler(Protocol):
    """One study that is minimised."""

    def ask(self, slot: int) -> tuple[int, Mapping[str, Any]]:
        """A trial for a free slot: its number and its parameters."""

    def tell(self, slot: int, number: int, value: float) -> None:
        """The value of a slot's trial. `ask` for the same slot follows, or nothing more."""


class Ours:
    """The part of this project's driver that hands out trials, with what it shows the sampler and samples ahead.

    Workers, messages and the database are left out: they cost time, and change no proposal.

    Args:
        space: The search space.
        trials: How many trials will be asked for.
        slots: How many run at once. With more than one, some are sampled ahead, as in the driver.
        seed: The sampler's.
        stored: Trials that the study has already.
    """

    def __init__(self, space: Space, trials: int, slots: int, seed: int, stored: Sequence[FrozenTrial] = ()) -> None:
        import optuna
        from optuna.study import StudyDirection
        from optuna.trial import TrialState

        from benchmarks.cases.specs import engine_spec
        from optuna_spark.driver.dispatch.assignments import Assignments
        from optuna_spark.driver.dispatch.study import StoredStudy
        from optuna_spark.trial_callback import NOBODY
        from optuna_spark.wire.messages import Outcome, Worker

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        spec = engine_spec("bowl", search_space=dict(space), trials=trials, tasks=slots, seed=seed)
        study = StoredStudy([StudyDirection.MINIMIZE], stored, {})
        self._trials = Assignments(spec, study, _NothingWritten(), NOBODY)
        self._distributions = distributions(space)
        self._workers = [Worker(slot, f"slot:{slot}") for slot in range(slots)]
        self._outcome: Callable[[float], Outcome] = lambda value: Outcome(TrialState.COMPLETE, (value,))

    def ask(self, slot: int) -> tuple[int, Mapping[str, Any]]:
        trial = self._trials.ask(self._workers[slot], _now())
        assert trial is not None  # as many as the spec allows are asked for
        while self._trials.wants_ahead(len(self._workers)):
            self._trials.sample_ahead()
        params = {name: d.to_external_repr(trial.params[name]) for name, d in self._distributions.items()}
        return trial.number, params

    def tell(self, slot: int, number: int, value: float) -> None:
        self._trials.tell(self._workers[slot], number, self._outcome(value))
        self._trials.settle()


class Optuna:
    """Optuna's own TPESampler with its defaults, among them the constant liar, and the study in memory."""

    def __init__(self, space: Space, trials: int, slots: int, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self.study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))

    def ask(self, slot: int) -> tuple[int, Mapping[str, Any]]:
        trial = self.study.ask()
        return trial.number, suggest_params(trial, self._space)

    def tell(self, slot: int, number: int, value: float) -> None:
        self.study.tell(number, value)


class Rustuna(Optuna):
    """Rustuna's TPESampler with its defaults, which are Optuna's, and the study in memory."""

    def __init__(self, space: Space, trials: int, slots: int, seed: int) -> None:
        import rustuna

        self._space = space
        self.study = rustuna.create_study(sampler=rustuna.samplers.TPESampler(seed=seed))


SAMPLERS: dict[str, Callable[[Space, int, int, int], Sampler]] = {"ours": Ours, "optuna": Optuna, "rustuna": Rustuna}


def share_of_optunas(space: Space, values: Sequence[float], params: Sequence[Mapping[str, Any]], slots: int) -> float:
    """Which share of ours' next proposals are Optuna's own, when both start from the same trials and random numbers.

    Args:
        space: The search space.
        values: Values of the trials by number.
        params: Their parameters.
        slots: How many trials are asked for. None is told, so each of them sees those before it run.
    """
    import optuna

    from optuna_spark.sampling.sampler_facts import sampler_seed

    theirs = Optuna(space, slots, slots, sampler_seed(SEED, len(values)) or 0)
    known = distributions(space)
    for value, chosen in zip(values, params, strict=True):
        theirs.study.add_trial(optuna.create_trial(value=value, params=dict(chosen), distributions=known))
    ours = Ours(space, slots, slots, SEED, theirs.study.get_trials())
    pairs = [(ours.ask(slot)[1], theirs.ask(slot)[1]) for slot in range(slots)]
    return sum(all(_near(one[name], other[name]) for name in space) for one, other in pairs) / slots


def _near(one: Any, other: Any) -> bool:
    """Whether two values of a parameter are the same but for the last digits."""
    return one == other if isinstance(one, str) else math.isclose(one, other, rel_tol=1e-6)


class _NothingWritten:
    """A journal that takes every change for written."""

    def put(self, record: TrialRecord) -> None: ...

    def put_attrs(self, attrs: Mapping[str, Any]) -> None: ...

    def put_user_attrs(self, attrs: Mapping[str, Any]) -> None: ...

    def commit(self, record: TrialRecord) -> Future[None]:
        written: Future[None] = Future()
        written.set_result(None)
        return written

    def take_refusals(self) -> list[Refusal]:
        return []


def _now() -> Now:
    from optuna_spark.driver.dispatch.assignments import Now

    return Now(datetime.datetime.now(), 0.0)
