"""Who is told of trials: what a callback hears, and that nothing it does changes a run."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sample_objectives import Diary  # type: ignore[import-not-found]  # see conftest.py

from optuna_spark import trial_callback
from optuna_spark.driver.run import tune
from optuna_spark.errors import TrialLimitError
from optuna_spark.spec.run_keys import Coordination
from optuna_spark.spec.sections import StopSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.trial_callback import Callbacks

TRIALS = 4


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.sqlite3"


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "diary.txt"


def spec_for(function: str, coordination: Coordination = "driver", **changes: Any) -> TuningSpec:
    return TuningSpec(
        "study", objective=f"sample_objectives:{function}", trials=TRIALS, tasks=2, distribution="local",
        coordination=coordination, run_id="one", **changes,
    )  # fmt: skip


def complete(url: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="study", storage=url).get_trials(states=(TrialState.COMPLETE,))


@pytest.mark.parametrize("coordination", ["driver", "database"])
def test_a_callback_hears_of_every_trial_and_of_the_end(coordination: Coordination, url: str, diary: Path) -> None:
    tune(spec_for("reports_twice", coordination), url, callbacks=[Diary(str(diary))])
    lines = diary.read_text().splitlines()
    for trial in complete(url):
        mine = [line for line in lines if line.split()[1] == str(trial.number)]
        assert mine == [
            f"started {trial.number}",
            f"reported {trial.number} 0",
            f"reported {trial.number} 1",
            f"ended {trial.number} COMPLETE {trial.values}",
        ]
    assert len(lines) == 4 * TRIALS + 1
    assert lines[-1] == "run ended None"


@pytest.mark.parametrize("coordination", ["driver", "database"])
@pytest.mark.parametrize("fails", ["started", "reported", "ended", "run ended"])
def test_a_callback_that_fails_costs_one_line_and_touches_nothing(
    fails: str, coordination: Coordination, url: str, diary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failing, sound = Diary(str(diary) + ".failing", fails), Diary(str(diary))
    result = tune(spec_for("reports_twice", coordination), url, callbacks=[failing, sound])
    assert result.snapshot.finished == len(complete(url)) == TRIALS
    assert len(diary.read_text().splitlines()) == 4 * TRIALS + 1
    if coordination == "driver" or fails == "run ended":  # the others fail in the workers' processes
        lines = [r for r in caplog.records if r.name == "optuna_spark.trial_callback"]
        assert [r.exc_info is not None for r in lines] == [True]


def test_a_run_that_fails_says_why_at_its_end(url: str, diary: Path) -> None:
    spec = spec_for("always_fails", stop=StopSpec(max_failures=2))
    with pytest.raises(TrialLimitError) as raised:
        tune(spec, url, callbacks=[Diary(str(diary))])
    lines = diary.read_text().splitlines()
    assert lines[-1] == f"run ended {raised.value}"
    assert Counter(line.split()[0] for line in lines[:-1])["ended"] >= 2


class Hanging:
    """Returns from nothing until it is let go."""

    go = threading.Event()

    def trial_started(self, number: int) -> None:
        self.go.wait(300)

    def trial_reported(self, number: int, step: int, value: float) -> None: ...

    def trial_ended(self, trial: optuna.trial.FrozenTrial) -> None: ...

    def run_ended(self, reason: str | None) -> None: ...


def test_a_callback_that_hangs_holds_up_neither_trials_nor_the_end(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trial_callback, "CLOSE_S", 0.1)
    tune(spec_for("parabola"), url, callbacks=[Hanging()])
    Hanging.go.set()
    assert len(complete(url)) == TRIALS
    assert "what is left is not told" in caplog.text


def test_without_callbacks_there_is_no_thread() -> None:
    before = threading.active_count()
    nobody = Callbacks()
    nobody.run_ended(None)
    assert threading.active_count() <= before
    nobody.close()
