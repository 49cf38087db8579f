"""What a worker's messages may hold: a wrong type ends its connection, data that do not fit fail its trial or call."""

from __future__ import annotations

from typing import Any

import pytest

from optuna_spark.storage.limits import TEXT_BYTES
from optuna_spark.wire.messages import Changes, Enqueue, Read, Relative, SetStudyAttr, Update, from_worker
from optuna_spark.wire.sealing import WireError

LONG = "x" * TEXT_BYTES


@pytest.mark.parametrize(
    "message",
    [
        {"op": "read", "part": "passwords"},
        {"op": "read", "part": ["trials"]},
        {"op": "read", "part": "trials", "since": "0"},
        {"op": "read", "part": "trials", "since": True},
        {"op": "relative"},
        {"op": "relative", "number": "0"},
        {"op": "enqueue"},
        {"op": "enqueue", "params": [1]},
        {"op": "enqueue", "params": {}, "user_attrs": [1]},
        {"op": "enqueue", "params": {}, "user_attrs": {str(n): 1 for n in range(5000)}},
        {"op": "set_study_attr", "value": 1},
        {"op": "set_study_attr", "key": 1, "value": 1},
        {"op": "update", "number": 0, "changes": {"system_attrs": ["artifacts:1"]}},
    ],
    ids=lambda message: str(message)[:60],
)
@pytest.mark.attack("the wire", "reads and writes of the study with odd types")
def test_a_wrong_type_ends_the_connection(message: dict[str, Any]) -> None:
    with pytest.raises(WireError):
        from_worker(message)


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "a sampler's attribute of a trial": (
        {"op": "update", "number": 0, "changes": {"system_attrs": {"cma:optimizer": "8004"}}},
        "cannot set system attribute 'cma:optimizer' of its trial",
    ),
    "the queue's attribute of a trial": (
        {"op": "update", "number": 0, "changes": {"system_attrs": {"fixed_params": {"x": 1}}}},
        "cannot set system attribute 'fixed_params' of its trial",
    ),
    "an artifact that is no text": (
        {"op": "update", "number": 0, "changes": {"system_attrs": {"artifacts:1": {}}}},
        "cannot set system attribute 'artifacts:1' of its trial",
    ),
    "scores that are no numbers": (
        {"op": "update", "number": 0, "changes": {"system_attrs": {"terminator:cv_scores": ["a"]}}},
        "terminator:cv_scores must be a list of numbers",
    ),
    "the run's attribute of a study": (
        {"op": "set_study_attr", "key": "optuna_spark:writer", "value": "x", "system": True},
        "cannot set system attribute 'optuna_spark:writer' of its study",
    ),
    "a long attribute of a study": ({"op": "set_study_attr", "key": "k", "value": LONG}, "at most 65535 bytes"),
    "half a character": ({"op": "set_study_attr", "key": "\ud800", "value": 1}, "text that UTF-8 can hold"),
    "long parameters": ({"op": "enqueue", "params": {"x": LONG}}, "at most 65535 bytes"),
    "a parameter's long name": ({"op": "enqueue", "params": {"x" * 600: 1}}, "at most 512 characters"),
    "a queued trial's attribute": ({"op": "enqueue", "params": {}, "user_attrs": {"k": LONG}}, "at most 65535 bytes"),
}


@pytest.mark.parametrize("case", list(UNFIT))
def test_what_does_not_fit_names_the_rule_and_is_left_out(case: str) -> None:
    message, rule = UNFIT[case]
    request = from_worker(message)
    assert isinstance(request, Update | Enqueue | SetStudyAttr)
    holder = request.changes if isinstance(request, Update) else request
    assert rule in str(holder.unfit)
    assert "8004" not in repr(holder)
    assert LONG not in repr(holder)


@pytest.mark.parametrize(
    "request_",
    [
        Read("ended", 7),
        Relative(3),
        Enqueue({"x": 1.5, "c": None}, {"why": [1]}),
        SetStudyAttr("k", {"a": 1}),
        SetStudyAttr("artifacts:0a-1", "{}", system=True),
        Update(3, Changes(system_attrs={"artifacts:0a-1": "{}", "terminator:cv_scores": [0.5, 1]})),
    ],
    ids=lambda request: type(request).__name__,
)
def test_a_request_arrives_as_it_was_sent(request_: Any) -> None:
    assert from_worker(request_.to_message()) == request_
