"""Conditions of parameters: which exist, in which order, and what is refused when the file is read."""

from __future__ import annotations

from typing import Any

import pytest

from optuna_spark.errors import SpecError
from optuna_spark.objectives.registry import check_objective, max_steps
from optuna_spark.spec.conditions import condition_text, existing, in_order
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.parameters import check_parameters
from optuna_spark.spec.sections import ComponentSpec, ParamSpec
from optuna_spark.spec.tuning import TuningSpec


def choice(*choices: Any, **when: Any) -> ParamSpec:
    return ParamSpec("categorical", choices=choices, when=when)


def number(low: float = 0, high: float = 1, **when: Any) -> ParamSpec:
    return ParamSpec("float", low, high, when=when)


# Declared the other way round, and nested.
SPACE = {
    "skip_drop": number(kind="forest"),
    "kind": choice("tree", "forest", booster=["dart"]),
    "lr": number(),
    "booster": choice("gbtree", "dart", None),
    "leaves": number(deep=True, depth=[7, 9]),
    "deep": choice(True, False),
    "depth": ParamSpec("int", 1, 9, step=2),
}


def spec(space: dict[str, ParamSpec], **changes: Any) -> TuningSpec:
    return TuningSpec("s", search_space=space, **changes)


def test_a_parameter_comes_after_those_its_condition_names_and_else_as_declared() -> None:
    assert in_order(SPACE) == ["booster", "kind", "skip_drop", "lr", "deep", "depth", "leaves"]
    plain = {name: number() for name in ("z", "a", "m")}
    assert in_order(plain) == ["z", "a", "m"]


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ({"booster": "dart", "kind": "forest", "skip_drop": 0.5}, {"booster", "kind", "skip_drop"}),
        ({"booster": "dart", "kind": "tree", "skip_drop": 0.5}, {"booster", "kind"}),
        ({"booster": None, "kind": "forest", "skip_drop": 0.5}, {"booster"}),
        ({"kind": "forest", "lr": 0.5}, {"lr"}),
        ({"deep": True, "depth": 9, "leaves": 1}, {"deep", "depth", "leaves"}),
        ({"deep": True, "depth": 5, "leaves": 1}, {"deep", "depth"}),
        ({"deep": False, "depth": 9, "leaves": 1}, {"deep", "depth"}),
    ],
)
def test_what_does_not_exist_is_no_parent_either(values: dict[str, Any], left: set[str]) -> None:
    assert existing(SPACE, values).keys() == left


def test_a_trial_is_whole_with_exactly_what_exists() -> None:
    space = spec({"booster": choice("gbtree", "dart"), "rate": number(booster="dart")})
    assert space.allows({"booster": "gbtree"})
    assert space.allows({"booster": "dart", "rate": 0.5})
    assert not space.allows({"booster": "dart"})
    assert not space.allows({"booster": "gbtree", "rate": 0.5})
    assert not space.allows({"rate": 0.5})


def test_conditions_travel_with_the_spec() -> None:
    assert TuningSpec.from_json(spec(SPACE).to_json()).search_space["leaves"].conditions == {
        "deep": (True,),
        "depth": (7, 9),
    }
    assert condition_text(SPACE["leaves"]) == "deep is true and depth is 7 or 9"


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        (
            {"booster": choice("a"), "x": number(boster="a")},
            "search_space.x.when: unknown parameter 'boster' (did you mean 'booster'?); valid parameters: booster, x",
        ),
        (
            {"lr": number(), "x": number(lr=0.5)},
            "x.when: a condition needs a categorical or int parameter, and lr is a f",
        ),
        ({"b": choice("a", "c"), "x": number(b="d")}, "search_space.x.when.b: must be one of a, c, got str 'd'"),
        ({"b": choice("a", "c"), "x": number(b=["a", "d"])}, "search_space.x.when.b: must be one of a, c, got str 'd'"),
        ({"b": choice(True, False), "x": number(b=1)}, "search_space.x.when.b: must be one of true, false, got int 1"),
        ({"n": ParamSpec("int", 1, 9, 2), "x": number(n=4)}, "x.when.n: must be 1 plus a multiple of 2, got 4"),
        ({"n": ParamSpec("int", 1, 9), "x": number(n=10)}, "x.when.n: must be from 1 to 9, got 10"),
        ({"b": choice("a"), "x": number(b=[])}, "search_space.x.when: b: name at least one value"),
        (
            {"a": choice(1, b=1), "b": choice(1, c=1), "c": choice(1, a=1)},
            "search_space.a.when: the conditions go in a circle: a needs b needs c needs a; remove one",
        ),
        ({"a": choice(1, a=1)}, "search_space.a.when: the conditions go in a circle: a needs a; remove one"),
        (
            {"b": choice("gbtree", "dart"), "kind": choice(1, 2, b="dart"), "x": number(b="gbtree", kind=1)},
            "search_space.x.when: x would never exist: it needs that b is gbtree, and kind, which it needs, exists only"
            " when b is dart",
        ),
    ],
)
def test_a_condition_that_cannot_be_is_refused(space: dict[str, ParamSpec], sentence: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec(space)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (
            {"booster": "gbtree", "kind": "tree"},
            "kind exists only when booster is dart, and here booster is gbtree: give",
        ),
        ({"kind": "tree"}, "kind exists only when booster is dart, and here booster has no value: give what its"),
        ({"booster": "dart", "skip_drop": 1}, "skip_drop exists only when kind is forest, and here kind has no value"),
        (
            {"deep": True, "depth": 5, "leaves": 1},
            "leaves exists only when deep is true and depth is 7 or 9, and here d",
        ),
    ],
)
def test_a_first_try_that_no_trial_could_have_is_refused(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_parameters(SPACE, [{}, params])
    assert f"enqueue[1]: {sentence}" in str(caught.value)


def test_a_first_try_that_a_trial_could_have_is_right() -> None:
    check_parameters(SPACE, [{}, {"booster": "dart", "kind": "forest", "skip_drop": 1}, {"booster": None}, {"lr": 1}])


def sampler(name: str, **args: Any) -> ComponentSpec:
    return ComponentSpec(name, args)


FIXED = {"name": "GridSampler", "args": {"search_space": {"x": [1]}}}


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (sampler("GridSampler"), "sampler: GridSampler would try every value of rate also where it does not exist"),
        (
            sampler("PartialFixedSampler", base_sampler=FIXED),
            "BruteForceSampler tries each combination that exists once",
        ),
        (
            sampler("CmaEsSampler"),
            "sampler: CmaEsSampler needs the same numbers in every trial, and would choose all at",
        ),
    ],
)
def test_a_sampler_that_cannot_search_such_a_space_is_refused(chosen: ComponentSpec, sentence: str) -> None:
    space = {"booster": choice(1, 2), "rate": number(booster=2)}
    with pytest.raises(SpecError) as caught:
        check_objective(spec(space, sampler=chosen))
    assert sentence in str(caught.value)
    check_objective(spec(space, sampler=sampler("BruteForceSampler")))
    check_objective(spec({"booster": choice(1, 2)}, sampler=chosen))


def test_cma_es_searches_where_only_choices_have_conditions() -> None:
    check_objective(spec({"b": choice(1, 2), "c": choice(1, 2, b=2), "x": number()}, sampler=sampler("CmaEsSampler")))


def test_xgboost_takes_a_parameter_of_dart_where_booster_is_searched() -> None:
    space = {"booster": choice("gbtree", "dart"), "rate_drop": number(booster="dart")}
    check_objective(spec(space, objective="xgboost", data=DataSpec("sklearn:diabetes")))


def test_a_full_trial_has_the_most_rounds_that_one_can_have() -> None:
    rounds = {"booster": choice("gbtree", "dart"), "num_boost_round": ParamSpec("int", 5, 20, when={"booster": "dart"})}
    data = DataSpec("sklearn:diabetes")
    given = spec(rounds, objective="xgboost", data=data, objective_section={"num_boost_round": 50})
    assert max_steps(given) == 50
    assert max_steps(given.with_changes(objective_section={"num_boost_round": 10})) == 20
