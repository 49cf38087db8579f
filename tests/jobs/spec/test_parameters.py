"""Names and first values of parameters are checked before any trial runs."""

from __future__ import annotations

from typing import Any

import pytest

from optuna_spark.errors import SpecError
from optuna_spark.spec.parameters import check_distinct, check_parameters
from optuna_spark.spec.sections import ParamSpec

SPACE = {
    "max_depth": ParamSpec("int", 2, 8),
    "odd": ParamSpec("int", 1, 9, step=2),
    "lr": ParamSpec("float", 1e-3, 0.1, log=True),
    "share": ParamSpec("float", 0, 1, step=0.1),
    "booster": ParamSpec("categorical", choices=("gbtree", "dart", 3, 2.5, True, None, "7")),
}

FITTING = [
    {},
    {"max_depth": 2, "lr": 0.1, "booster": "dart"},
    {"max_depth": 8.0, "odd": 9},
    {"share": 0.3},
    {"share": 1},
    {"booster": None},
    {"booster": True},
    {"booster": 3},
    {"booster": 2.5},
]

NOT_FITTING = [
    ({"max_dept": 3}, "unknown parameter 'max_dept' (did you mean 'max_depth'?); valid parameters: booster, lr, max_"),
    ({"max_depth": 99}, "max_depth: must be from 2 to 8, got 99"),
    ({"max_depth": 1}, "max_depth: must be from 2 to 8, got 1"),
    ({"max_depth": 2.5}, "max_depth: must be a whole number, got float 2.5"),
    ({"max_depth": "3"}, "max_depth: must be a whole number, got str '3'"),
    ({"max_depth": True}, "max_depth: must be a whole number, got bool True"),
    ({"max_depth": None}, "max_depth: must be a whole number, got nothing"),
    ({"odd": 4}, "odd: must be 1 plus a multiple of 2, got 4"),
    ({"lr": 0}, "lr: must be from 0.001 to 0.1, got 0"),
    ({"lr": "1e-2"}, "lr: must be a number, got str '1e-2'"),
    ({"lr": float("nan")}, "lr: must be a number, got float nan"),
    ({"share": 0.25}, "share: must be 0 plus a multiple of 0.1, got 0.25"),
    ({"booster": "gblinear"}, "booster: must be one of gbtree, dart, 3, 2.5, true, null, '7', got str 'gblinear'"),
    ({"booster": 3.0}, "got float 3.0"),
    ({"booster": 7}, "got int 7"),
    ({"booster": [1]}, "got list [1]"),
]


@pytest.mark.parametrize("params", FITTING, ids=str)
def test_a_set_that_fits_may_be_tried_first(params: dict[str, Any]) -> None:
    check_parameters(SPACE, [params])
    assert all(SPACE[name].allows(value) for name, value in params.items())


@pytest.mark.parametrize(("params", "sentence"), NOT_FITTING, ids=str)
def test_a_set_that_does_not_fit_is_refused_with_its_place(params: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as caught:
        check_parameters(SPACE, [{"max_depth": 3}, params])
    assert str(caught.value).startswith("enqueue[1]")
    assert sentence in str(caught.value)


def test_where_the_objective_defines_the_space_any_set_may_be_tried() -> None:
    check_parameters({}, [{"whatever": "it takes"}])


@pytest.mark.parametrize(("one", "other"), [("Depth", "depth"), ("straße", "STRASSE"), ("eta", "éta"), ("x", "x ")])
def test_names_that_mysql_takes_for_one_are_refused(one: str, other: str) -> None:
    space = {one: SPACE["lr"], other: SPACE["lr"]}
    sentence = f"parameters {one!r} and {other!r} differ only in case or accents, which MySQL does not tell apart"
    with pytest.raises(SpecError, match=f"^search_space: {sentence}: rename one of them$"):
        check_parameters(space, [])
    with pytest.raises(SpecError, match=f"^enqueue: {sentence}"):
        check_parameters({}, [{one: 1}, {other: 2}])


def test_the_same_name_again_is_no_other_one() -> None:
    check_distinct(["x", "y", "x"])
