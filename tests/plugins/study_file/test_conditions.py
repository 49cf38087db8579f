"""`when` in a study file: what is refused, what page and form say, what is tried first and what is exported."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from optuna_spark.sampling.search_space import suggest_params
from tests.support.studies import study_reader
from tuning_pipeline.dag.form import form_params, study_of_run
from tuning_pipeline.dag.study_doc import study_doc
from tuning_pipeline.exports.export import export_study
from tuning_pipeline.retune.warm_start import warm_started
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError

Study = Callable[[str], StudyFile]
XGBOOST = """objective: xgboost
data: {path: 'sklearn:diabetes'}
search_space:
  rate_drop: {type: float, low: 0, high: 1, when: {booster: dart}}
  booster: {type: categorical, choices: [gbtree, dart]}
  max_depth: {type: int, low: 1, high: 9}
  max_leaves: {type: int, low: 2, high: 64, when: {max_depth: [8, 9], booster: dart}}
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_reader(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("{booster: dart}}\n  b", "{boster: dart}}\n  b", "rate_drop.when: unknown parameter 'boster' (did you mean"),
        (
            "{booster: dart}}\n  b",
            "{booster: darts}}\n  b",
            "when.booster: must be one of gbtree, dart, got str 'darts'",
        ),
        ("{booster: dart}}\n  b", "dart}\n  b", "search_space.rate_drop.when: must be a mapping of keys to values"),
        ("[8, 9]", "[8, 10]", "search_space.max_leaves.when.max_depth: must be from 1 to 9, got 10"),
        (
            "{max_depth: [8, 9], ",
            "{rate_drop: 1, ",
            "max_leaves.when: a condition needs a categorical or int parameter",
        ),
        ("high: 9}", "high: 9, when: {max_leaves: 9}}", "go in a circle: max_depth needs max_leaves needs max_depth"),
        ("data:", "sampler: GridSampler\ndata:", "sampler: GridSampler would try every value of rate_drop also where"),
        ("data:", "enqueue: [{rate_drop: 0.5}]\ndata:", "enqueue[0]: rate_drop exists only when booster is dart, and"),
    ],
)
def test_a_wrong_condition_is_one_sentence_when_the_file_is_read(
    study: Study, old: str, new: str, sentence: str
) -> None:
    study(XGBOOST)
    assert old in XGBOOST
    with pytest.raises(StudyFileError) as caught:
        study(XGBOOST.replace(old, new))
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("dags/studies/example.yaml: ")


def test_the_dags_page_says_when_a_parameter_exists(study: Study) -> None:
    lines = study_doc(study(XGBOOST)).splitlines()
    assert "| `rate_drop` | float | 0 to 1, when booster is dart |" in lines
    assert "| `max_leaves` | int | 2 to 64, when max\\_depth is 8 or 9 and booster is dart |" in lines


def test_a_form_may_set_conditions_with_the_objectives_words(study: Study) -> None:
    space = {
        "booster": {"type": "categorical", "choices": ["gbtree", "dart"]},
        "skip_drop": {"type": "float", "low": 0, "high": 1, "when": {"booster": ["dart"]}},
    }
    given = study("objective: xgboost\ndata: {path: 'sklearn:diabetes'}\n")
    conf = {"search_space": space}
    changed = study_of_run(given, {name: param.value for name, param in form_params(given).items()} | conf, conf)
    assert changed.settings.search_space["skip_drop"].conditions == {"booster": ("dart",)}


def test_a_warm_start_leaves_out_what_would_not_exist(study: Study, tmp_path: Path) -> None:
    given = study(XGBOOST)
    latest = tmp_path / given.settings.study / "latest"
    latest.mkdir(parents=True)
    found = [
        {"booster": "gbtree", "max_depth": 9, "rate_drop": 0.5},  # before there was a condition
        {"booster": "dart", "max_depth": 9, "rate_drop": 0.5, "max_leaves": 4},
        {"booster": "gblinear", "max_depth": 3, "rate_drop": 0.5},  # a choice that is gone
    ]
    (latest / "best_trials.json").write_text(json.dumps([{"params": params} for params in found]))
    assert warm_started(given.to_spec("r"), str(tmp_path), 3).enqueue == (
        {"booster": "gbtree", "max_depth": 9},
        found[1],
        {"max_depth": 3},
    )


def test_exports_leave_out_what_a_trial_does_not_have(study: Study, tmp_path: Path) -> None:
    space = study(XGBOOST).settings.search_space
    made = optuna.create_study(study_name="s", sampler=optuna.samplers.RandomSampler(seed=1))
    made.optimize(lambda trial: float("rate_drop" in suggest_params(trial, space)), n_trials=20)
    folder = Path(export_study(made, tmp_path / "exports", "run")["folder"])
    best = json.loads((folder / "best_params.json").read_text())
    assert best["params"].keys() == {"booster", "max_depth"}
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["params_booster"] for row in rows} == {"gbtree", "dart"}
    assert all((row["params_rate_drop"] == "") == (row["params_booster"] == "gbtree") for row in rows)
