"""A run starts from the study it was told to, twice if need be, and never from one that does not fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy

from optuna_spark.errors import StudyMismatchError
from optuna_spark.sampling.fits_study import check_search_space
from optuna_spark.sampling.search_space import distributions
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.optuna_storage import close_storage, create_storage
from tuning_pipeline.database.prepare_study import check_prepared, prepare_study
from tuning_pipeline.database.study_runs import StudyRuns, read_runs, write_runs
from tuning_pipeline.failures import TaskError

SPACE = {"x": ParamSpec("float", 0, 1), "n": ParamSpec("int", 1, 9), "c": ParamSpec("categorical", choices=("a", "b"))}


@pytest.fixture
def url(tmp_path: Path) -> sqlalchemy.URL:
    return sqlalchemy.URL.create("sqlite", database=str(tmp_path / "study.db"))


def spec(run_id: str = "run 1", **changes: Any) -> TuningSpec:
    return TuningSpec("s", search_space=SPACE, run_id=run_id).with_changes(**changes)


def stored(url: sqlalchemy.URL, name: str = "s") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=str(url))


def run_trials(url: sqlalchemy.URL, n: int = 3) -> None:
    study = stored(url)
    for _ in range(n):
        study.tell(study.ask(distributions(SPACE)), 1.0)


def test_resume_starts_a_study_that_is_not_there(url: sqlalchemy.URL) -> None:
    assert prepare_study(spec(), url, "resume") == {"study": "s", "mode": "resume", "trials": {}}
    assert stored(url).direction.name == "MINIMIZE"


def test_resume_keeps_what_is_there(url: sqlalchemy.URL) -> None:
    prepare_study(spec(), url, "resume")
    run_trials(url)
    assert prepare_study(spec("run 2"), url, "resume")["trials"] == {"complete": 3}


def test_several_directions_are_kept(url: sqlalchemy.URL) -> None:
    prepare_study(spec(directions=("minimize", "maximize")), url, "create")
    assert [d.name for d in stored(url).directions] == ["MINIMIZE", "MAXIMIZE"]


def test_reset_touches_this_study_only_and_keeps_it_under_another_name(url: sqlalchemy.URL) -> None:
    prepare_study(spec(), url, "resume")
    run_trials(url)
    prepare_study(TuningSpec("other"), url, "resume")
    prepared = prepare_study(spec("run 2"), url, "reset")
    assert prepared["trials"] == {}
    assert set(optuna.get_all_study_names(str(url))) == {"other", "s", prepared["replaced"]}
    assert re.fullmatch(r"s\.replaced-\d{8}T\d{6}\.\d{6}Z", prepared["replaced"])
    assert len(stored(url, prepared["replaced"]).trials) == 3


def test_a_study_without_trials_is_not_worth_keeping(url: sqlalchemy.URL) -> None:
    prepare_study(spec(), url, "resume")
    assert "replaced" not in prepare_study(spec("run 2"), url, "reset")
    assert optuna.get_all_study_names(str(url)) == ["s"]


def test_a_reset_that_was_killed_half_way_is_done_over(url: sqlalchemy.URL) -> None:
    prepare_study(spec(), url, "resume")
    run_trials(url)
    optuna.create_study(study_name="s.new", storage=str(url))
    kept = prepare_study(spec("run 2"), url, "reset")["replaced"]
    assert set(optuna.get_all_study_names(str(url))) == {"s", kept}


@pytest.mark.parametrize("mode", ["resume", "reset", "create"])
def test_a_run_whose_study_was_reset_since_may_not_prepare_again(url: sqlalchemy.URL, mode: str) -> None:
    prepare_study(spec("run 1"), url, "reset")
    run_trials(url)
    prepare_study(spec("run 2"), url, "reset")
    run_trials(url, 2)
    with pytest.raises(TaskError, match=r"no longer the one that this run prepared.*run 2 works on it"):
        prepare_study(spec("run 1"), url, mode)
    with pytest.raises(TaskError, match="no longer the one that this run prepared"):
        check_prepared("s", url, "run 1")
    check_prepared("s", url, "run 2")
    assert len(stored(url).trials) == 2


def test_an_older_reset_that_prepares_again_keeps_what_a_later_run_added(url: sqlalchemy.URL) -> None:
    prepare_study(spec("run 1"), url, "reset")
    prepare_study(spec("run 2"), url, "resume")
    run_trials(url)
    assert prepare_study(spec("run 1"), url, "reset")["trials"] == {"complete": 3}


def test_a_study_that_is_gone_is_named(url: sqlalchemy.URL) -> None:
    prepare_study(spec("run 1"), url, "resume")
    optuna.delete_study(study_name="s", storage=str(url))
    with pytest.raises(TaskError, match="study 's' is gone"):
        check_prepared("s", url, "run 1")


def test_a_study_of_an_earlier_version_goes_on(url: sqlalchemy.URL) -> None:
    study = optuna.create_study(study_name="s", storage=str(url))
    study.set_user_attr("created_by_run", "run 1")
    run_trials(url)
    check_prepared("s", url, "run 0")  # begun before the upgrade: nobody can know
    assert prepare_study(spec("run 1"), url, "reset")["trials"] == {"complete": 3}
    assert prepare_study(spec("run 2"), url, "resume")["trials"] == {"complete": 3}
    assert prepare_study(spec("run 3"), url, "reset")["trials"] == {}


def test_the_runs_of_a_study_fit_into_its_column(url: sqlalchemy.URL) -> None:
    prepare_study(spec("run"), url, "resume")
    storage = create_storage(url)
    runs = StudyRuns({f"{i:0250}": "digest" for i in range(1000)}, [f"{i:0250}" for i in range(1000)])
    write_runs("s", storage, runs)
    kept = read_runs("s", storage)
    close_storage(storage)
    assert (kept.newest, kept.former[-1]) == (runs.newest, runs.former[-1])
    assert 150 < len(kept.own) < 200


def test_a_retried_reset_keeps_the_trials_of_its_own_run(url: sqlalchemy.URL) -> None:
    prepare_study(spec(), url, "resume")
    run_trials(url, 5)
    prepare_study(spec("run 2"), url, "reset")
    run_trials(url, 2)
    assert prepare_study(spec("run 2"), url, "reset")["trials"] == {"complete": 2}
    assert prepare_study(spec("run 3"), url, "reset")["trials"] == {}


def test_reset_starts_a_study_that_is_not_there(url: sqlalchemy.URL) -> None:
    assert prepare_study(spec(), url, "reset")["trials"] == {}


def test_reset_mends_a_study_that_does_not_fit(url: sqlalchemy.URL) -> None:
    prepare_study(spec(), url, "resume")
    run_trials(url)
    changed = spec("run 2", directions=("maximize",))
    with pytest.raises(StudyMismatchError):
        prepare_study(changed, url, "resume")
    prepare_study(changed, url, "reset")
    assert stored(url).direction.name == "MAXIMIZE"


def test_create_refuses_a_study_that_is_there(url: sqlalchemy.URL) -> None:
    prepare_study(spec(), url, "create")
    run_trials(url)
    with pytest.raises(TaskError, match="study 's' exists, and mode create must not touch it"):
        prepare_study(spec("run 2"), url, "create")
    assert len(stored(url).trials) == 3


def test_a_retried_create_finds_its_own_study(url: sqlalchemy.URL) -> None:
    prepare_study(spec(), url, "create")
    run_trials(url, 1)
    assert prepare_study(spec(), url, "create")["trials"] == {"complete": 1}


def test_other_directions_are_told(url: sqlalchemy.URL) -> None:
    prepare_study(spec(), url, "resume")
    run_trials(url, 1)
    message = (
        "study 's' is stored with directions minimize, but the study file says maximize, minimize:"
        " trigger with mode reset to begin anew, or use another study name"
    )
    with pytest.raises(StudyMismatchError, match=message):
        prepare_study(spec("run 2", directions=("maximize", "minimize")), url, "resume")


def test_an_empty_study_takes_the_directions_of_the_corrected_file(
    url: sqlalchemy.URL, caplog: pytest.LogCaptureFixture
) -> None:
    prepare_study(spec(), url, "resume")  # the first run fails before its first trial
    with caplog.at_level("INFO", "optuna_spark.storage.empty_study"):
        prepared = prepare_study(spec("run 2", directions=("maximize", "minimize")), url, "resume")
    assert [d.name for d in stored(url).directions] == ["MAXIMIZE", "MINIMIZE"]
    assert prepared == {"study": "s", "mode": "resume", "trials": {}}
    assert [one for one in caplog.messages if "empty" in one] == [
        "Study s was empty, and has taken the directions maximize, minimize"
    ]
    assert optuna.get_all_study_names(str(url)) == ["s"]
    for run in ("run 1", "run 2"):
        check_prepared("s", url, run)


@pytest.mark.parametrize("kept", ["a trial", "a waiting point", "an attribute", "another tool's attribute"])
def test_a_study_that_holds_anything_keeps_its_directions(url: sqlalchemy.URL, kept: str) -> None:
    prepare_study(spec(), url, "resume")
    study = stored(url)
    if kept == "a trial":
        run_trials(url, 1)
    elif kept == "a waiting point":
        study.enqueue_trial({"x": 0.5})
    elif kept == "an attribute":
        study.set_user_attr("by", "a person")
    else:
        storage = create_storage(url)
        storage.set_study_system_attr(storage.get_study_id_from_name("s"), "tool:state", 1)
        close_storage(storage)
    with pytest.raises(StudyMismatchError, match="is stored with directions minimize"):
        prepare_study(spec("run 2", directions=("maximize",)), url, "resume")
    assert stored(url).direction.name == "MINIMIZE"


def test_a_search_space_that_does_not_fit_is_told_parameter_by_parameter(url: sqlalchemy.URL) -> None:
    prepare_study(spec(), url, "resume")
    run_trials(url)
    space = {
        "x": ParamSpec("float", 0.1, 1, log=True),
        "n": ParamSpec("float", 1, 9),
        "c": ParamSpec("categorical", choices=("a", "b", "d")),
    }
    with pytest.raises(StudyMismatchError) as caught:
        prepare_study(spec("run 2", search_space=space), url, "resume")
    assert str(caught.value) == (
        "the stored trials of study 's' do not fit the search space:"
        " parameter c: stored one of a, b, now one of a, b, d;"
        " parameter n: stored int 1 to 9, now float 1 to 9;"
        " parameter x: stored float 0 to 1, now float 0.1 to 1, log:"
        " trigger with mode reset to begin anew, or use another study name"
    )


def test_changed_bounds_and_parameters_are_allowed_and_logged(
    url: sqlalchemy.URL, caplog: pytest.LogCaptureFixture
) -> None:
    prepare_study(spec(), url, "resume")
    run_trials(url)
    space = {"x": ParamSpec("float", 0, 2, step=0.5), "n": SPACE["n"], "new": ParamSpec("int", 1, 2)}
    with caplog.at_level("INFO", "tuning_pipeline.database.prepare_study"):
        prepare_study(spec("run 2", search_space=space), url, "resume")
    assert "parameter x: stored float 0 to 1, now float 0 to 2, step 0.5" in caplog.text
    assert "parameter new is new" in caplog.text
    assert "parameter c is no longer tuned" in caplog.text


def test_what_is_called_compatible_is_what_optuna_accepts(url: sqlalchemy.URL) -> None:
    """Optuna itself is asked: suggesting the changed parameter works, or raises, as the check foretells."""
    changes = [
        ParamSpec("float", 0, 9),
        ParamSpec("float", 0, 1, step=0.5),
        ParamSpec("float", 0.5, 1, log=True),
        ParamSpec("int", 0, 1),
        ParamSpec("categorical", choices=(0.0, 1.0)),
    ]
    prepare_study(spec(), url, "resume")
    run_trials(url)
    for param in changes:
        wanted = distributions({"x": param})
        try:
            stored(url).ask(wanted)
            accepted = True
        except ValueError:
            accepted = False
        try:
            check_search_space("s", wanted, distributions({"x": SPACE["x"]}))
            foretold = True
        except StudyMismatchError:
            foretold = False
        assert foretold == accepted, param


def test_an_own_objective_without_a_search_space_fits_any_trials(url: sqlalchemy.URL) -> None:
    prepare_study(spec(), url, "resume")
    run_trials(url)
    prepare_study(spec("run 2", search_space={}), url, "resume")
