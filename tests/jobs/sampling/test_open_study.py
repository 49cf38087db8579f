"""A study that a run opens: its values have names, and it notes with which versions the run was made."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage

from optuna_spark.driver.coordinator import LoadedRun
from optuna_spark.driver.database_run import OpenedDatabaseRun
from optuna_spark.driver.run import tune
from optuna_spark.objectives.registry import value_names
from optuna_spark.results.versions import VERSIONS
from optuna_spark.sampling.open_study import open_study
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ComponentSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.storage.optuna_storage import close_storage, create_storage
from optuna_spark.storage.run_notes import note_of
from optuna_spark.trial_callback import Callbacks

TABLE = DataSpec("sklearn:wine")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


@pytest.fixture
def storage(url: str) -> Iterator[RDBStorage]:
    found = create_storage(url)
    yield found
    close_storage(found)


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (TuningSpec("s", objective="xgboost", data=TABLE), ["rmse"]),
        (
            TuningSpec(
                "s", objective="xgboost", data=TABLE, directions=("minimize", "maximize"),
                objective_section={"task": "binary", "metric": ["logloss", "auc"]},
            ),
            ["logloss", "auc"],
        ),
        (TuningSpec("s", objective="own:tune"), ["value"]),
        (TuningSpec("s", objective="own:tune", metric_names=("accuracy",)), ["accuracy"]),
        (TuningSpec("s", objective="own:tune", directions=("minimize", "maximize")), ["value_0", "value_1"]),
    ],
)  # fmt: skip
def test_the_values_of_a_study_have_names(spec: TuningSpec, names: list[str], storage: RDBStorage) -> None:
    open_study(spec, storage, value_names(spec))
    assert optuna.load_study(study_name="s", storage=storage).metric_names == names


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_names_that_somebody_gave_an_own_objectives_values_stay(storage: RDBStorage) -> None:
    spec = TuningSpec("s", objective="own:tune")
    open_study(spec, storage).set_metric_names(["accuracy"])
    assert open_study(spec, storage).metric_names == ["accuracy"]


@pytest.mark.parametrize("coordination", ["driver", "database"])
def test_a_run_names_values_and_notes_its_versions_in_the_study(coordination: str, url: str) -> None:
    spec = TuningSpec(
        "s", objective="xgboost", data=TABLE, objective_section={"task": "multiclass", "num_boost_round": 3},
        trials=2, tasks=1, distribution="local", coordination=coordination, run_id="run 7",  # type: ignore[arg-type]  # both
    )  # fmt: skip
    tune(spec, url)
    storage = create_storage(url)  # not before: with SQLite, whoever holds the database open may lock the workers out
    study = optuna.load_study(study_name="s", storage=storage)
    assert study.metric_names == ["mlogloss"]
    noted = note_of(storage.get_study_system_attrs(storage.get_study_id_from_name("s"))[VERSIONS], "run 7")
    assert noted is not None
    assert noted["python"] == platform.python_version()
    assert noted["optuna"] == optuna.__version__
    assert noted["xgboost"].startswith("3.")
    assert {str(trial.user_attrs["fixed_params"]) for trial in study.trials} == {"{'num_class': 3}"}
    assert [trial.user_attrs["best_iteration"] for trial in study.trials] == [2, 2]
    close_storage(storage)


@pytest.mark.parametrize("open_run", [LoadedRun, OpenedDatabaseRun])
def test_the_driver_tells_our_pruner_the_last_round_of_xgboost(
    open_run: Callable[[TuningSpec, str, Callbacks], LoadedRun | OpenedDatabaseRun], url: str
) -> None:
    spec = TuningSpec("s", objective="xgboost", data=TABLE, pruner=ComponentSpec("ExtrapolationPruner"))
    open_run(spec, url, Callbacks()).close()
