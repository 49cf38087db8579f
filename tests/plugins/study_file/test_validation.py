"""The section `validation` in a study file and in the trigger form, and the keys that stood elsewhere before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.studies import study_reader
from tuning_pipeline.dag.form import form_params, study_of_run
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError

Study = Callable[[str], StudyFile]
HEAD = "objective: xgboost\ndata: {path: 'sklearn:diabetes'}\n"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_reader(tmp_path)


def test_keys_of_the_former_place_are_read_as_those_of_the_section(study: Study) -> None:
    before, now = study(HEAD + "xgboost: {folds: 3, task: regression}"), study(HEAD + "validation: {folds: 3}")
    assert before.settings.validation == now.settings.validation
    assert before.settings.validation.folds == 3
    assert before.to_spec("r").objective_section == {"task": "regression"}


def test_a_run_may_change_what_stands_in_the_former_place(study: Study) -> None:
    file = study(HEAD + "xgboost: {folds: 3}")
    assert form_params(file)["validation_folds"].value == 3
    params = {name: param.value for name, param in form_params(file).items()} | {"validation_folds": 4}
    assert study_of_run(file, params, {"validation_folds": 4}).settings.validation.folds == 4


def test_the_form_names_no_column(study: Study) -> None:
    fields = [name for name in form_params(study(HEAD + "validation: {group: age}")) if name.startswith("validation")]
    assert fields == ["validation_holdout", "validation_folds"]
    assert not [name for name in form_params(study("objective: quadratic")) if name.startswith("validation")]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("validation: {folds: 3}\nxgboost: {folds: 3}", "validation.folds: is given there and as xgboost.folds"),
        ("validation: {fold: 3}", "validation: unknown key 'fold' (did you mean 'folds'?)"),
        ("validation: {group: 3}", "validation.group: must be a text, got int 3"),
        ("xgboost: {holdout: 1}", "xgboost: holdout must be between 0 and 1 (exclusive), got 1"),
    ],
)
def test_what_cannot_be_is_refused_when_the_file_is_read(study: Study, text: str, sentence: str) -> None:
    with pytest.raises(StudyFileError) as raised:
        study(HEAD + text)
    assert sentence in str(raised.value)
