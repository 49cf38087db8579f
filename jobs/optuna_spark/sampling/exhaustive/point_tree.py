"""The points of a search space as a tree that grows as trials show it: which are tried, which run, which are free."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers._brute_force import _enumerate_candidates
from optuna.trial import FrozenTrial, TrialState

from optuna_spark.sampling.exhaustive.exhaustive import Declared
from optuna_spark.storage.trial_record import FIXED


class Node:
    """What trials with the same first parameters have in common.

    Attributes:
        name: The parameter that they suggest next; None as long as nobody knows one.
        distribution: Its distribution.
        candidates: Its values in internal representation; None where they cannot be counted.
        children: The nodes behind its values, where a trial has been.
        running: How many running trials are here, and have not suggested that parameter yet.
        tried: Whether a trial has ended here.
        free: How many more trials may come here, at least. What lies behind a value that nobody has tried counts as 1.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self.distribution: BaseDistribution | None = None
        self.candidates: tuple[float, ...] | None = None
        self.children: dict[float, Node] = {}
        self.running, self.tried, self.free = 0, False, 1

    def expand(self, name: str, distribution: BaseDistribution) -> None:
        """Note which parameter comes next here."""
        self.name, self.distribution, self.candidates = name, distribution, candidates_of(distribution)

    def child(self, value: float) -> Node:
        return self.children.setdefault(value, Node())

    def behind(self, value: float) -> int:
        """How many more trials may come with this value, at least."""
        return self.children[value].free if value in self.children else 1

    def count(self) -> None:
        """Set `free`, once that of the children is right."""
        if self.name is None:
            self.free = 0 if self.tried or self.running else 1
        elif self.candidates is None:
            self.free = 1
        else:
            self.free = max(0, sum(map(self.behind, self.candidates)) - self.running)


class PointTree:
    """Places each trial. Not thread-safe.

    Args:
        space: The declared search space; its conditions are followed. Other parameters follow in the order in which
            an objective suggests them.
    """

    def __init__(self, space: Declared) -> None:
        self._space = space
        self._root = Node()
        self._paths: dict[int, list[Node]] = {}  # of running and waiting trials, by number

    @property
    def free(self) -> int:
        """How many more trials may begin, at least."""
        return self._root.free

    def see(self, trial: FrozenTrial, taken: bool) -> None:
        """Place a trial as it is now.

        Args:
            trial: The trial.
            taken: Whether no other trial is to try its point.
        """
        if (before := self._paths.pop(trial.number, None)) is not None:
            before[-1].running -= 1
            _count(before)
        path, is_whole = self._path(trial)
        if not taken or (trial.state.is_finished() and not is_whole):
            return
        if trial.state == TrialState.FAIL and len(path) == 1:  # before its first parameter, which says nothing of any
            return
        if trial.state.is_finished():
            path[-1].tried = True
        else:
            path[-1].running += 1
            self._paths[trial.number] = path
        _count(path)

    def next_node(self, number: int, name: str, distribution: BaseDistribution) -> Node | None:
        """Where a running trial suggests a parameter; None if others have suggested another one there."""
        path = self._paths.get(number)
        if path is None or path[-1].name not in (None, name):
            return None
        if path[-1].distribution != distribution:
            path[-1].expand(name, distribution)
            _count(path)
        return path[-1]

    def _path(self, trial: FrozenTrial) -> tuple[list[Node], bool]:
        """The nodes from the root to a trial, and whether it has all parameters that are known to come."""
        params = {**trial.system_attrs.get(FIXED, {}), **trial.params}
        known = self._known(trial, params)
        path, names = [self._root], set[str]()
        while True:
            node = path[-1]
            if node.name is None:
                following = next((name for name in known if name not in names), None)
                if following is None:
                    return path, True
                node.expand(following, known[following])
            value = _internal(node, params)
            if node.name is None or value is None:
                return path, False
            names.add(node.name)
            path.append(node.child(value))

    def _known(self, trial: FrozenTrial, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """The parameters that a trial has, or suggests next, with their distributions, in order."""
        declared = _Replay(params).steps(self._space)
        return declared | {name: found for name, found in trial.distributions.items() if name not in declared}


def candidates_of(distribution: BaseDistribution) -> tuple[float, ...] | None:
    """All values of a parameter in internal representation; None if it is continuous."""
    if isinstance(distribution, CategoricalDistribution):
        return _enumerate_candidates(0, len(distribution.choices) - 1, 1)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.single():
        return (distribution.low,)
    if distribution.step is None:
        return None
    return _enumerate_candidates(distribution.low, distribution.high, distribution.step)


def _internal(node: Node, params: Mapping[str, Any]) -> float | None:
    """A trial's value for a node's parameter; None if it has none, or one that does not fit."""
    if node.name is None or node.distribution is None or node.name not in params:
        return None
    try:
        return node.distribution.to_internal_repr(params[node.name])
    except (ValueError, TypeError, OverflowError):  # queued by somebody, or of an earlier search space
        return None


def _count(path: list[Node]) -> None:
    for node in reversed(path):
        node.count()


class _OpenError(Exception):
    """A trial has no value for a declared parameter yet."""


class _Replay:
    """Suggests what a trial has, and notes what it is asked for, up to the first parameter that the trial lacks."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self._steps: dict[str, BaseDistribution] = {}

    def steps(self, space: Declared) -> dict[str, BaseDistribution]:
        with contextlib.suppress(_OpenError):
            space.suggest(self)
        return self._steps

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> Any:
        return self._suggest(name, FloatDistribution(low, high, log, step))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> Any:
        return self._suggest(name, IntDistribution(low, high, log, step))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._suggest(name, CategoricalDistribution(choices))

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        self._steps[name] = distribution
        if name not in self._params:
            raise _OpenError
        return self._params[name]
