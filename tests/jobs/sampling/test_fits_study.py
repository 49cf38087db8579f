"""A stored study that does not fit the run is refused before any trial, and an empty one takes its directions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from optuna_spark.driver.run import tune
from optuna_spark.errors import SpecError, StudyMismatchError, TrialLimitError
from optuna_spark.sampling.search_space import distributions
from optuna_spark.spec.run_keys import Coordination, Direction
from optuna_spark.spec.sections import ParamSpec, ResourceSpec, StopSpec
from optuna_spark.spec.tuning import TuningSpec

KINDS = ParamSpec("categorical", choices=("a", "b"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


def spec(coordination: Coordination = "driver", **changes: Any) -> TuningSpec:
    given: dict[str, Any] = {"trials": 1, "tasks": 1, "distribution": "local", "coordination": coordination}
    return TuningSpec("s", **(given | changes))


def stored(url: str) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=url)


def with_trials(url: str, space: dict[str, ParamSpec], directions: tuple[Direction, ...] = ("minimize",)) -> None:
    study = optuna.create_study(study_name="s", storage=url, directions=list(directions))
    study.tell(study.ask(distributions(space)), [1.0] * len(directions))


@pytest.mark.parametrize("coordination", ["driver", "database"])
@pytest.mark.parametrize(
    ("now", "told"),
    [
        (ParamSpec("categorical", choices=("a", "b", "c")), "stored one of a, b, now one of a, b, c"),
        (ParamSpec("int", 1, 3), "stored one of a, b, now int 1 to 3"),
    ],
)
def test_changed_choices_and_kinds_are_told_before_any_trial(
    url: str, coordination: Coordination, now: ParamSpec, told: str
) -> None:
    with_trials(url, {"kind": KINDS})
    with pytest.raises(StudyMismatchError) as caught:
        tune(spec(coordination, objective="own:f", search_space={"kind": now}), url)
    assert str(caught.value) == (
        f"the stored trials of study 's' do not fit the search space: parameter kind: {told}:"
        " trigger with mode reset to begin anew, or use another study name"
    )
    assert len(stored(url).trials) == 1


@pytest.mark.parametrize("coordination", ["driver", "database"])
def test_other_directions_are_told_before_any_trial(url: str, coordination: Coordination) -> None:
    with_trials(url, {"x": ParamSpec("float", 0, 1)}, ("maximize",))
    with pytest.raises(StudyMismatchError, match=r"directions maximize, but the study file says minimize: .* reset"):
        tune(spec(coordination), url)
    assert len(stored(url).trials) == 1


@pytest.mark.parametrize("coordination", ["driver", "database"])
def test_an_empty_study_takes_the_directions_of_the_run(
    url: str, coordination: Coordination, caplog: pytest.LogCaptureFixture
) -> None:
    optuna.create_study(study_name="s", storage=url, direction="maximize").set_metric_names(["gain"])
    with caplog.at_level("INFO", "optuna_spark.storage.empty_study"):
        tune(spec(coordination), url)
    assert stored(url).direction.name == "MINIMIZE"
    assert len(stored(url).trials) == 1
    assert "Study s was empty, and has taken the directions minimize" in caplog.messages


def test_what_a_run_refuses_is_refused_before_its_study_is_made(url: str) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"enqueue": ({"x": 99},)}, r"enqueue\[0\].x: must be from -10 to 10, got 99"),
        ({"enqueue": ({"y": 1},)}, r"enqueue\[0\]: unknown parameter 'y'"),
        ({"search_space": {"x": ParamSpec("float", 0, 1), "X": ParamSpec("float", 0, 1)}}, "differ only in case"),
        ({"resources": ResourceSpec(gpus_per_task=2)}, "gpus_per_task must be at most 1 for objective quadratic"),
    ]
    for changes, sentence in wrong:
        with pytest.raises(SpecError, match=sentence):
            tune(spec(**changes), url)
    with pytest.raises(KeyError):
        stored(url)


OWN = """
def case(trial):
    return trial.suggest_float("x", 0, 1) + trial.suggest_float("X", 0, 1)

def kind(trial):
    return len(trial.suggest_categorical("kind", ["a", "b", "c"]))
"""


@pytest.mark.parametrize(
    ("coordination", "function", "sentence"),
    [
        ("database", "case", "parameters 'x' and 'X' differ only in case or accents"),
        (
            "driver",
            "kind",
            "parameter kind: stored one of a, b, now one of a, b, c: trigger with mode reset to begin anew",
        ),
    ],
)
def test_what_only_the_objective_declares_is_told_in_its_trial(
    url: str,
    coordination: Coordination,
    function: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_trials(url, {"kind": KINDS})
    (tmp_path / "own_declares.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TrialLimitError, match=sentence):
        tune(spec(coordination, objective=f"own_declares:{function}", stop=StopSpec(max_failures=1)), url)
    assert {trial.state.name for trial in stored(url).trials[1:]} == {"FAIL"}
