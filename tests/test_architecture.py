"""Nothing upstream is imported by anything downstream: read from the sources, not from a running program."""

from __future__ import annotations

import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.rooms import ROOT, Arrows, imports, module_arrows, modules, reached, room_arrows

CLUSTER = {"pyspark", "joblibspark", "xgboost", "cudf", "cupy", "joblib"}

# Each room, and the rooms it may import; a line here is a decision. ARCHITECTURE.md says what each is for.
ROOMS: dict[str, set[str]] = {
    "jobs/database": {"jobs/errors"},
    "jobs": set(),
    "jobs/errors": set(),
    "jobs/shown": set(),
    "jobs/spec": {"jobs/errors"},
    "jobs/device": {"jobs/errors", "jobs/spec"},
    "jobs/stop_and_retry": {"jobs/spec", "jobs/storage"},
    "jobs/trial_callback": set(),
    "jobs/data/files": {"jobs/errors", "jobs/spec"},
    "jobs/data": {"jobs/data/files", "jobs/data/stores", "jobs/device", "jobs/errors", "jobs/spec"},
    "jobs/data/splits": {"jobs/data", "jobs/errors", "jobs/spec"},
    "jobs/data/stores": {"jobs/data/files", "jobs/errors", "jobs/spec"},
    "jobs/own_process": {"jobs/database"},
    "jobs/storage": {"jobs/database", "jobs/errors", "jobs/own_process", "jobs/shown"},
    "jobs/results": {"jobs/errors", "jobs/storage"},
    "jobs/sampling/exhaustive": {"jobs/errors", "jobs/storage"},
    "jobs/sampling/calling": {"jobs/errors", "jobs/spec", "jobs/storage", "jobs/wire"},
    "jobs/sampling": {"jobs/errors", "jobs/results", "jobs/sampling/exhaustive", "jobs/spec", "jobs/storage"},
    "jobs/objectives": {"jobs/data", "jobs/device", "jobs/errors", "jobs/spec"},
    "jobs/objectives/quadratic": {"jobs/errors", "jobs/objectives", "jobs/sampling", "jobs/spec"},
    "jobs/objectives/xgboost": {
        "jobs/data", "jobs/data/splits", "jobs/device", "jobs/errors", "jobs/objectives", "jobs/sampling", "jobs/spec",
    },
    "jobs/objectives/registry": {
        "jobs/errors", "jobs/objectives", "jobs/objectives/quadratic", "jobs/objectives/xgboost", "jobs/spec",
    },
    "jobs/wire": {"jobs/errors", "jobs/shown", "jobs/spec", "jobs/storage", "jobs/trial_callback"},
    "jobs/shared_study": {
        "jobs/database", "jobs/errors", "jobs/objectives/registry", "jobs/sampling", "jobs/sampling/calling",
        "jobs/sampling/exhaustive", "jobs/shown", "jobs/spec", "jobs/stop_and_retry", "jobs/storage",
        "jobs/trial_callback",
    },
    "jobs/worker": {
        "jobs/device", "jobs/errors", "jobs/objectives", "jobs/objectives/registry", "jobs/sampling",
        "jobs/sampling/calling", "jobs/shared_study", "jobs/spec", "jobs/stop_and_retry", "jobs/storage",
        "jobs/trial_callback", "jobs/wire",
    },
    "jobs/final_model": {"jobs/device", "jobs/errors", "jobs/objectives", "jobs/objectives/registry", "jobs/spec"},
    "jobs/distribution": {
        "jobs/data", "jobs/errors", "jobs/objectives/registry", "jobs/shown", "jobs/spec", "jobs/wire", "jobs/worker",
    },
    "jobs/driver/dispatch": {
        "jobs/errors", "jobs/objectives/registry", "jobs/sampling", "jobs/sampling/calling",
        "jobs/sampling/exhaustive", "jobs/shown", "jobs/spec", "jobs/stop_and_retry", "jobs/storage",
        "jobs/trial_callback", "jobs/wire",
    },
    "jobs/driver": {
        "jobs/data", "jobs/database", "jobs/distribution", "jobs/driver/dispatch", "jobs/errors", "jobs/final_model",
        "jobs/objectives/registry", "jobs/sampling", "jobs/shared_study", "jobs/shown", "jobs/spec",
        "jobs/stop_and_retry", "jobs/storage", "jobs/trial_callback", "jobs/wire",
    },
    "jobs/tracking": {
        "jobs/errors", "jobs/own_process", "jobs/results", "jobs/spec", "jobs/storage", "jobs/trial_callback",
    },
    "jobs/entry": {
        "jobs/data/files", "jobs/database", "jobs/distribution", "jobs/driver", "jobs/errors",
        "jobs/objectives/registry", "jobs/sampling", "jobs/spec", "jobs/storage", "jobs/tracking",
        "jobs/trial_callback",
    },
    "plugins": set(),
    "plugins/failures": {"jobs/database", "jobs/errors"},
    "plugins/study_file/keys": {"jobs/errors", "jobs/spec"},
    "plugins/targets/standalone/keys": {"jobs/errors", "jobs/spec", "plugins/study_file/keys"},
    "plugins/targets/databricks/keys": {"jobs/errors", "jobs/spec", "plugins/study_file/keys"},
    "plugins/targets/registry": {
        "jobs/errors", "plugins/study_file/keys", "plugins/targets/databricks/keys", "plugins/targets/standalone/keys",
    },
    "plugins/study_file": {
        "jobs/errors", "jobs/objectives/registry", "jobs/sampling", "jobs/spec", "plugins/study_file/keys",
        "plugins/targets/registry",
    },
    "plugins/reference": {
        "jobs/errors", "jobs/spec", "plugins/study_file", "plugins/study_file/keys", "plugins/targets",
        "plugins/targets/registry",
    },
    "plugins/dag": {"jobs/errors", "jobs/objectives/registry", "jobs/spec", "plugins/study_file", "plugins/targets"},
    "plugins/database": {
        "jobs/database", "jobs/errors", "jobs/results", "jobs/sampling", "jobs/spec", "jobs/storage",
        "plugins/failures", "plugins/study_file", "plugins/study_file/keys", "plugins/targets/registry",
    },
    "plugins/runs": {
        "jobs/database", "jobs/spec", "jobs/storage", "plugins/dag", "plugins/database", "plugins/failures",
        "plugins/study_file", "plugins/targets/registry",
    },
    "plugins/exports/folders": {"plugins/failures"},
    "plugins/exports/report": {"jobs/results", "jobs/storage", "plugins/exports/folders"},
    "plugins/exports": {
        "jobs/errors", "jobs/objectives/registry", "jobs/results", "jobs/spec", "jobs/storage",
        "plugins/database", "plugins/exports/folders", "plugins/exports/report", "plugins/failures", "plugins/runs",
    },
    "plugins/retune": {
        "jobs/data/stores", "jobs/errors", "jobs/results", "jobs/sampling", "jobs/spec", "jobs/storage",
        "plugins/database", "plugins/exports", "plugins/exports/folders", "plugins/failures", "plugins/study_file",
        "plugins/study_file/keys",
    },
    "plugins/tracking": {
        "jobs/errors", "jobs/spec", "jobs/storage", "jobs/tracking", "plugins/database", "plugins/runs",
    },
    "plugins/tasks": {
        "jobs/errors", "jobs/spec", "jobs/storage", "plugins/database", "plugins/exports", "plugins/exports/folders",
        "plugins/failures", "plugins/retune", "plugins/runs", "plugins/study_file", "plugins/tracking",
    },
    "plugins/targets": {
        "jobs", "jobs/spec", "plugins/failures", "plugins/study_file", "plugins/study_file/keys",
        "plugins/targets/registry",
    },
    "plugins/targets/standalone": {
        "jobs/distribution", "jobs/errors", "jobs/spec", "plugins/database", "plugins/failures", "plugins/retune",
        "plugins/runs", "plugins/study_file", "plugins/study_file/keys", "plugins/targets", "plugins/tasks",
    },
    "plugins/targets/databricks/workspace": {
        "jobs/database", "jobs/objectives/registry", "jobs/spec", "jobs/storage", "plugins/database",
        "plugins/exports/folders", "plugins/failures", "plugins/retune", "plugins/study_file", "plugins/targets",
        "plugins/targets/databricks/keys",
    },
    "plugins/targets/databricks": {
        "jobs/errors", "jobs/spec", "jobs/storage", "plugins/database", "plugins/exports/folders", "plugins/failures",
        "plugins/retune", "plugins/runs", "plugins/study_file", "plugins/study_file/keys", "plugins/targets",
        "plugins/targets/databricks/keys", "plugins/targets/databricks/workspace", "plugins/tasks",
    },
    "plugins/commands": {
        "jobs/errors", "jobs/storage", "plugins/dag", "plugins/database", "plugins/failures", "plugins/runs",
        "plugins/study_file", "plugins/targets/databricks", "plugins/targets/registry", "plugins/tracking",
    },
    "plugins/dags": {"plugins/dag", "plugins/study_file", "plugins/targets"},
    "plugins/pages": {
        "jobs/database", "jobs/errors", "jobs/results", "jobs/shown", "jobs/storage", "plugins/database",
        "plugins/exports", "plugins/exports/folders", "plugins/exports/report", "plugins/failures", "plugins/runs",
        "plugins/study_file/keys", "plugins/targets/databricks",
    },
}  # fmt: skip


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def of_jobs(names: set[str]) -> set[str]:
    return {name for name in names if name.startswith("optuna_spark.")}


PLAIN_DATA = set[str]().union(*(of_jobs(used) for name, used in module_arrows().items() if "tuning_pipeline" in name))


def test_every_room_is_in_the_table() -> None:
    assert set(room_arrows()) == set(ROOMS)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_imports_the_rooms_in_its_line_and_no_others(room: str) -> None:
    assert room_arrows()[room] == ROOMS[room]


@pytest.mark.parametrize("arrows", [module_arrows(), room_arrows()], ids=["modules", "rooms"])
def test_there_is_no_import_circle(arrows: Arrows) -> None:
    TopologicalSorter(arrows).prepare()


@pytest.mark.parametrize("path", sources("jobs"), ids=lambda p: p.name)
def test_jobs_know_neither_airflow_nor_the_plugins(path: Path) -> None:
    assert not tops(path) & {"airflow", "tuning_pipeline", "tuning", "init"}


@pytest.mark.parametrize("path", sources("plugins"), ids=lambda p: p.name)
def test_plugins_know_nothing_of_the_cluster(path: Path) -> None:
    assert not tops(path) & (CLUSTER | {"tuning", "init"})


@pytest.mark.parametrize("module", sorted(PLAIN_DATA))
def test_what_the_plugins_use_of_the_jobs_needs_nothing_of_the_cluster(module: str) -> None:
    for name in reached(module):
        assert not tops(modules()[name]) & CLUSTER, f"{module} reaches {name}"


@pytest.mark.parametrize("path", sources("dags"), ids=lambda p: p.name)
def test_dags_know_airflow_and_the_plugins(path: Path) -> None:
    assert not tops(path) & (CLUSTER | {"optuna", "optuna_spark", "sqlalchemy", "pymysql", "init"})


@pytest.mark.parametrize(
    "path",
    [
        *sources("jobs/optuna_spark/spec"),
        *(ROOT / "jobs/optuna_spark" / name for name in ("errors.py", "database/tls.py")),
    ],
    ids=lambda p: p.name,
)
def test_what_crosses_to_the_cluster_needs_the_standard_library_only(path: Path) -> None:
    assert tops(path) - {"optuna_spark"} <= set(sys.stdlib_module_names)
