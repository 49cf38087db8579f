"""What spark-submit is told: plain data, no secret, and tasks that fit their executors."""

from __future__ import annotations

import importlib
import os
import sys
import zipfile
from pathlib import Path

import pytest
from airflow.sdk import Connection

from optuna_spark.spec.sections import ResourceSpec
from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.failures import TaskError
from tuning_pipeline.study_file.keys.spark import SparkSettings
from tuning_pipeline.study_file.own_code import own_objective
from tuning_pipeline.study_file.study_file import StudyFile, parse_study
from tuning_pipeline.targets.package import code_of, pack_module, pack_package, ship
from tuning_pipeline.targets.standalone.cluster import check_cluster, master_of
from tuning_pipeline.targets.standalone.scratch import write_private
from tuning_pipeline.targets.standalone.submission import (
    APPLICATION,
    driver_environment,
    master_addresses,
    spark_conf,
    submission,
)


def study(folder: Path, **document: object) -> StudyFile:
    return parse_study(folder / "s.yaml", {"study": "s", **document})


def conf(tasks: int = 2, cpus: int = 1, gpus: float = 0, distribution: str = "rdd", **spark: object) -> dict[str, str]:
    spec = TuningSpec("s", tasks=tasks, distribution=distribution, resources=ResourceSpec(cpus, float(gpus)))  # type: ignore[arg-type]
    return spark_conf(spec, SparkSettings(**spark))  # type: ignore[arg-type]


def test_the_run_travels_in_a_file(tmp_path: Path) -> None:
    space = {"x": {"type": "float", "low": 0, "high": 1000}}
    given = study(tmp_path, search_space=space, enqueue=[{"x": i / 7} for i in range(2000)])
    made = submission(given, given.to_spec("manual__1"), tmp_path / "p.zip", tmp_path / "spec.json")
    assert made.application == str(APPLICATION)
    assert made.application_args == ["--spec-file", str(tmp_path / "spec.json")]
    assert (made.name, made.py_files, made.archives) == ("tune s", str(tmp_path / "p.zip"), None)


def test_an_objective_beside_the_study_file_travels_along(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(trial): return 1.0\n")
    given = study(tmp_path, objective="mine:f", spark={"py_files": ["/x/a.py"], "archives": ["/e.tgz#e"]})
    made = submission(given, given.to_spec("r"), tmp_path / "p.zip", tmp_path / "spec.json")
    assert made.py_files == f"{tmp_path}/p.zip,{tmp_path}/mine.py,/x/a.py"
    assert made.archives == "/e.tgz#e"
    spaced = study(tmp_path, spark={"archives": ["/my folder/e.tgz#e", "https://host/e.tgz#e"]})
    made = submission(spaced, spaced.to_spec("r"), tmp_path / "p.zip", tmp_path / "spec.json")
    assert made.archives == "file:///my%20folder/e.tgz#e,https://host/e.tgz#e"
    assert own_objective(tmp_path, "elsewhere:f") is None
    assert own_objective(tmp_path, "xgboost") is None


def test_a_package_beside_the_study_file_travels_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, scratch = tmp_path / "studies", tmp_path / "scratch"
    for part in ("mine/parts/__pycache__", "plain"):
        (folder / part).mkdir(parents=True)
    scratch.mkdir()
    for name in (
        "mine/__init__.py",
        "mine/parts/__init__.py",
        "mine/parts/__pycache__/a.pyc",
        "mine/.env",
        "plain/a.py",
    ):
        (folder / name).touch()
    (folder / "mine" / "parts" / "table.json").write_text("[42]")
    (folder / "mine" / "code.py").write_text(
        "from importlib.resources import files\n"
        "def f(trial): return files('mine.parts').joinpath('table.json').read_text()\n"
    )
    given = study(folder, objective="mine.code:f")
    made = submission(given, given.to_spec("r"), scratch / "p.zip", scratch / "spec.json")
    assert made.py_files == f"{scratch}/p.zip,{scratch}/mine.zip"
    assert code_of(given) == (folder / "mine",)
    (shipped,) = ship(code_of(given), scratch)
    assert shipped == scratch / "mine.zip"
    assert shipped.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(shipped) as archive:
        names = archive.namelist()
    assert names == ["mine/__init__.py", "mine/code.py", "mine/parts/__init__.py", "mine/parts/table.json"]
    monkeypatch.syspath_prepend(str(shipped))
    code = importlib.import_module("mine.code")
    assert code.f(None) == "[42]"
    for name in ("mine", "mine.code", "mine.parts"):
        del sys.modules[name]
    assert own_objective(folder, "plain.b:f") is None  # an installed package may have the name and more in it


def test_cpu_tasks_get_as_many_cores_as_they_need() -> None:
    found = conf(tasks=4)
    assert found["spark.task.cpus"] == "1"
    assert found["spark.cores.max"] == "4"
    assert "spark.executor.cores" not in found


def test_a_task_of_several_cores_fits_its_executor() -> None:
    found = conf(tasks=3, cpus=4)
    assert (found["spark.task.cpus"], found["spark.executor.cores"], found["spark.cores.max"]) == ("4", "4", "12")
    found = conf(tasks=3, cpus=2, executor_cores=5)
    assert (found["spark.executor.cores"], found["spark.cores.max"]) == ("5", "10")


@pytest.mark.parametrize(
    ("gpus", "executor_gpus", "executor_cores", "cores"),
    [(1, "1", "1", "4"), (0.5, "1", "2", "4"), (0.25, "1", "4", "4"), (0.3, "1", "3", "6"), (2, "2", "1", "4")],
)
def test_gpu_tasks_share_an_executor_as_they_share_a_gpu(
    gpus: float, executor_gpus: str, executor_cores: str, cores: str
) -> None:
    found = conf(tasks=4, gpus=gpus)
    assert found["spark.task.resource.gpu.amount"] == f"{gpus:g}"
    assert found["spark.executor.resource.gpu.amount"] == executor_gpus
    assert (found["spark.executor.cores"], found["spark.cores.max"]) == (executor_cores, cores)


def test_joblib_gets_no_fraction_in_the_property_it_cannot_read() -> None:
    assert conf(gpus=0.5, distribution="joblib")["spark.task.resource.gpu.amount"] == "1"
    assert conf(gpus=2, distribution="joblib")["spark.task.resource.gpu.amount"] == "2"


def test_the_study_files_own_properties_win() -> None:
    found = conf(conf={"spark.cores.max": 1, "spark.ui.enabled": False}, executor_memory="2g", driver_memory="1g")
    assert found["spark.cores.max"] == "1"
    assert found["spark.ui.enabled"] == "false"
    assert (found["spark.executor.memory"], found["spark.driver.memory"]) == ("2g", "1g")


def test_equal_sources_give_an_equal_package(tmp_path: Path) -> None:
    first = pack_package(tmp_path / "a.zip").read_bytes()
    assert pack_package(tmp_path / "b.zip").read_bytes() == first
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
    assert "optuna_spark/spec/tuning.py" in names
    assert "optuna_spark/objectives/__init__.py" in names
    assert not [name for name in names if "__pycache__" in name]


def test_a_package_can_be_imported_from_its_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "probe"
    package.mkdir()
    (package / "__init__.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(str(pack_module(tmp_path / "p.zip", package)))
    import probe  # type: ignore[import-not-found]

    assert probe.answer == 42
    del sys.modules["probe"]


def test_a_temporary_folder_whose_path_is_too_long_for_sockets_is_not_named() -> None:
    assert "TMPDIR" not in driver_environment("sqlite://", Path("/" + "d" * 80), "")


def test_the_password_is_in_the_environment_and_nowhere_else(tmp_path: Path) -> None:
    url = "mysql+pymysql://u:hush@h/d"
    assert driver_environment(url, Path("/scratch"), "http://master:8080") == {
        "TUNING_SPARK_PAGE": "http://master:8080",
        "OPTUNA_STORAGE_URL": url,
        "TUNING_FAILURE_FILE": "/scratch/failure.json",
        "TUNING_PROGRESS_FILE": "/scratch/progress.json",
        "TUNING_LOG_FORMAT": "%(message)s",
        "TMPDIR": "/scratch",
        "TUNING_OWN_SESSION": "1",
    }
    given = study(tmp_path)
    assert "hush" not in repr(submission(given, given.to_spec("r"), tmp_path / "p.zip", tmp_path / "s"))


@pytest.mark.parametrize(
    ("master", "addresses"),
    [
        ("spark://a:7077", [("a", 7077)]),
        ("spark://a:7077,b:7078", [("a", 7077), ("b", 7078)]),
        ("spark://[::1]:7077", [("::1", 7077)]),
        ("local[2]", []),
    ],
)
def test_masters_are_found_in_their_url(master: str, addresses: list[tuple[str, int]]) -> None:
    assert master_addresses(master) == addresses


@pytest.mark.parametrize(
    ("connection", "master"),
    [
        ({"conn_type": "spark", "host": "spark://a", "port": 7077}, "spark://a:7077"),
        ({"conn_type": "spark", "host": "a", "port": 7077}, "spark://a:7077"),
        ({"conn_type": "spark", "host": "spark://a:7077,b:7077"}, "spark://a:7077,b:7077"),
        ({"conn_type": "spark", "host": "local[2]"}, "local[2]"),
    ],
)
def test_the_master_is_read_as_the_provider_reads_it(
    connection: dict[str, object], master: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook

    given = Connection(conn_id="c", **connection)  # type: ignore[arg-type]
    assert master_of(given) == master

    class Hook(SparkSubmitHook):
        @classmethod
        def get_connection(cls, conn_id: str) -> Connection:
            return given

    recorder = tmp_path / "spark-submit"
    recorder.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n')
    recorder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    Hook(conn_id="c").submit("x.py")
    assert f"--master {master} " in (tmp_path / "arguments").read_text()


@pytest.mark.attack("data sources", "a run's spec read in the process list, or too long for it")
def test_a_spec_of_any_length_is_submitted_and_no_argument_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook

    class Hook(SparkSubmitHook):
        @classmethod
        def get_connection(cls, conn_id: str) -> Connection:
            return Connection(conn_id="c", conn_type="spark", host="local[1]")

    recorder = tmp_path / "spark-submit"
    recorder.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n')
    recorder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    space = {f"parameter_{k}": {"type": "float", "low": 0, "high": 1000} for k in range(7)}
    given = study(tmp_path, search_space=space, enqueue=[dict.fromkeys(space, i / 7) for i in range(2000)])
    spec = given.to_spec("r")
    made = submission(given, spec, tmp_path / "p.zip", write_private(tmp_path / "spec.json", spec.to_json()))
    Hook(conn_id="c", application_args=made.application_args, conf=made.conf).submit(made.application)
    assert "parameter_" not in (tmp_path / "arguments").read_text()
    assert TuningSpec.from_json((tmp_path / "spec.json").read_text()) == spec
    assert (tmp_path / "spec.json").stat().st_mode & 0o777 == 0o600


def test_a_missing_spark_submit_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TaskError, match="spark-submit is not on PATH of the Airflow worker"):
        check_cluster(Connection(conn_id="c", conn_type="spark", host="local[1]"))


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "spark-submit").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize("host", ["yarn", "k8s://https://h"])
def test_a_master_that_would_show_the_password_is_refused(host: str) -> None:
    with pytest.raises(TaskError, match=f"must name a Spark standalone master in client mode, got {host}"):
        check_cluster(Connection(conn_id="c", conn_type="spark", host=host))


@pytest.mark.usefixtures("on_path")
def test_a_master_that_is_down_is_told_at_once() -> None:
    with pytest.raises(TaskError) as caught:
        check_cluster(Connection(conn_id="c", conn_type="spark", host="spark://127.0.0.1:1,127.0.0.1:2"))
    failure = caught.value.failure
    assert failure.what == "no Spark master answers at spark://127.0.0.1:1,127.0.0.1:2"
    assert failure.why == "127.0.0.1:1: Connection refused; 127.0.0.1:2: Connection refused"
    assert failure.retry
