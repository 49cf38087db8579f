"""Conditions of parameters (`when`): which parameters a trial has, in which order, and what is wrong with them.

A condition names other parameters of the search space, each with the value or values that it may have. All must hold. A
parameter that does not exist meets no condition, so conditions may be nested.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna_spark.errors import SpecError
from optuna_spark.spec.decode import unknown_key
from optuna_spark.spec.sections import ComponentSpec, ParamSpec, choice_text

Space = Mapping[str, ParamSpec]


def in_order(space: Space) -> list[str]:
    """The parameters as declared, but each after those that its condition names."""
    order: list[str] = []
    seen: set[str] = set()

    def put(name: str) -> None:
        if name not in seen:
            seen.add(name)
            for parent in space[name].when:
                put(parent)
            order.append(name)

    for name in space:
        put(name)
    return order


def exists(param: ParamSpec, values: Mapping[str, Any]) -> bool:
    """Whether a trial has a parameter, given the values of those that come before it."""
    return all(name in values and values[name] in wanted for name, wanted in param.conditions.items())


def existing(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Of these values those of parameters that exist together with them, in the order of `in_order`."""
    found: dict[str, Any] = {}
    for name in in_order(space):
        if name in values and exists(space[name], found):
            found[name] = values[name]
    return found


def is_whole(space: Space, values: Mapping[str, Any]) -> bool:
    """Whether these values are those of a whole trial: all parameters that exist with them, and no others."""
    needed = {name for name, param in space.items() if exists(param, values)}
    return needed == values.keys()


def condition_text(param: ParamSpec) -> str:
    """A condition in words: "booster is dart"; empty where there is none."""
    return " and ".join(f"{name} is {_any_of(wanted)}" for name, wanted in param.conditions.items())


def unmet(space: Space, name: str, values: Mapping[str, Any]) -> str:
    """The sentence for a value of a parameter that does not exist with these values of others."""
    now = ", ".join(
        f"{parent} is {choice_text(values[parent])}" if parent in values else f"{parent} has no value"
        for parent in space[name].when
    )
    return f"{name} exists only when {condition_text(space[name])}, and here {now}"


def check_conditions(space: Space) -> None:
    """Refuse conditions that name no parameter or no value of one, that go in a circle or that never hold.

    Raises:
        SpecError: The first thing wrong.
    """
    for name, param in space.items():
        for parent, wanted in param.conditions.items():
            _check_parent(space, parent, wanted, f"search_space.{name}.when")
    for name in space:
        _check_no_circle(space, name)
    for name in space:
        _check_can_hold(space, name)


def check_met(space: Space, values: Mapping[str, Any]) -> None:
    """Refuse values to try first that a trial could not have together: Optuna would silently leave some out.

    Raises:
        SpecError: The first parameter that does not exist with the others, and its condition.
    """
    found = existing(space, values)
    for name in in_order(space):
        if name in values and name not in found:
            raise SpecError(f"{unmet(space, name, found)}: give what its condition needs, or leave {name} out")


def check_sampler(space: Space, sampler: ComponentSpec) -> None:
    """Refuse samplers that cannot search a space whose trials differ in their parameters.

    Raises:
        SpecError: Names the sampler, why, and which can.
    """
    conditional = [name for name, param in space.items() if param.when]
    for name in _names(sampler) if conditional else ():
        if name == "GridSampler":
            raise SpecError(
                f"GridSampler would try every value of {conditional[0]} also where it does not exist (search_space"
                f".{conditional[0]}.when): BruteForceSampler tries each combination that exists once",
                "sampler",
            )
        numbers = [name for name in conditional if space[name].type != "categorical"]
        if name == "CmaEsSampler" and numbers:
            raise SpecError(
                "CmaEsSampler needs the same numbers in every trial, and would choose all at random since"
                f" {numbers[0]} has a condition (search_space.{numbers[0]}.when): use TPESampler, or remove the"
                " condition",
                "sampler",
            )


def _names(sampler: Any) -> Iterator[str]:
    """The class name of a sampler, and those of the samplers among its arguments."""
    name, args = (
        (sampler.name, sampler.args)
        if isinstance(sampler, ComponentSpec)
        else (sampler.get("name"), sampler.get("args") or {})
    )
    if isinstance(name, str):
        yield name
    for value in args.values():
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            yield from _names(value)


def _check_parent(space: Space, parent: str, wanted: Sequence[Any], key: str) -> None:
    if parent not in space:
        raise SpecError(unknown_key(parent, list(space), "parameter"), key)
    if space[parent].type == "float":
        raise SpecError(f"a condition needs a categorical or int parameter, and {parent} is a float", key)
    if not wanted:
        raise SpecError(f"{parent}: name at least one value", key)
    for value in wanted:
        try:
            space[parent].check(value)
        except SpecError as error:
            raise SpecError(str(error), f"{key}.{parent}") from None


def _check_no_circle(space: Space, start: str) -> None:
    def follow(path: tuple[str, ...]) -> None:
        for parent in space[path[-1]].when:
            if parent == start:
                circle = " needs ".join((*path, start))
                raise SpecError(f"the conditions go in a circle: {circle}; remove one", f"search_space.{start}.when")
            if parent not in path:
                follow((*path, parent))

    follow((start,))


def _check_can_hold(space: Space, name: str) -> None:
    """Refuse a condition that asks of one parameter what the condition of another one rules out."""
    needed: dict[str, list[Any]] = {}
    todo = [name]
    for child in todo:  # grows as it goes
        for parent, wanted in space[child].conditions.items():
            left = [value for value in needed.get(parent, wanted) if value in wanted]
            if not left:
                raise SpecError(
                    f"{name} would never exist: it needs that {parent} is {_any_of(needed[parent])}, and {child}, which"
                    f" it needs, exists only when {parent} is {_any_of(wanted)}",
                    f"search_space.{name}.when",
                )
            needed[parent] = left
            todo.append(parent)


def _any_of(wanted: Sequence[Any]) -> str:
    return " or ".join(map(choice_text, wanted))
