"""Nothing upstream is imported by anything downstream: read from the sources, not from a running program."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLAIN_DATA = {"spec", "errors", "decode", "storage", "retries", "samplers", "search_space", "results", "study_copy"}
PLAIN_DATA |= {"plain_secrets", "run_secrets", "tls", "mysql_connection", "trial_tables"}
PLAIN_DATA |= {"objectives.defaults", "objectives.xgboost_params", "objectives.xgboost_metrics"}
CLUSTER = {"pyspark", "joblibspark", "xgboost", "cudf", "cupy", "joblib"}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, anywhere in it; `from a import b` gives `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they point"
            yield str(node.module)
            yield from (f"{node.module}.{name.name}" for name in node.names)


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", sources("jobs"), ids=lambda p: p.name)
def test_jobs_know_neither_airflow_nor_the_plugins(path: Path) -> None:
    assert not tops(path) & {"airflow", "tuning_pipeline", "tuning", "init"}


@pytest.mark.parametrize("path", sources("plugins"), ids=lambda p: p.name)
def test_plugins_know_the_plain_data_of_the_jobs_only(path: Path) -> None:
    assert not tops(path) & (CLUSTER | {"tuning", "init"})
    used = {name.removeprefix("optuna_spark.") for name in imports(path) if name.startswith("optuna_spark.")}
    modules = {name for name in used if (ROOT / "jobs/optuna_spark" / (name.replace(".", "/") + ".py")).exists()}
    assert modules <= PLAIN_DATA


@pytest.mark.parametrize("name", sorted(PLAIN_DATA))
def test_plain_data_modules_need_nothing_of_the_cluster(name: str) -> None:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        path = ROOT / "jobs/optuna_spark" / (module.replace(".", "/") + ".py")
        if module in seen or not path.exists():
            continue
        seen.add(module)
        assert not tops(path) & CLUSTER, f"{name} reaches {module}"
        waiting += [used.removeprefix("optuna_spark.") for used in imports(path) if used.startswith("optuna_spark.")]


@pytest.mark.parametrize("path", sources("dags"), ids=lambda p: p.name)
def test_dags_know_airflow_and_the_plugins(path: Path) -> None:
    assert not tops(path) & (CLUSTER | {"optuna", "optuna_spark", "sqlalchemy", "pymysql", "init"})


@pytest.mark.parametrize("name", sorted({"spec", "errors", "decode", "plain_secrets", "run_secrets", "tls"}))
def test_what_crosses_to_the_cluster_needs_the_standard_library_only(name: str) -> None:
    import sys

    used = tops(ROOT / "jobs/optuna_spark" / f"{name}.py") - {"optuna_spark"}
    assert used <= set(sys.stdlib_module_names)
