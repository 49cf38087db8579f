"""The wheel, in two fresh environments that cannot see the sources: beside Airflow, and as the Spark side."""

from __future__ import annotations

import csv
import json
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest

from init.local.dist import build_wheel
from init.local.environments import Lock, build, uv, uv_environment
from init.local.layout import REPOSITORY, Layout
from init.local.spark import SparkCluster
from tests.support.programs import run_program
from tests.support.servers import scratch_folder

pytestmark = pytest.mark.slow

STUDY = (
    "objective: xgboost\ndata: {path: sklearn:diabetes}\nxgboost: {num_boost_round: 5}\ntrials: 4\ntasks: 2\nseed: 1\n"
    "distribution: rdd\nspark: {executor_memory: 512m}\n"
)
TWO_LINES = "from tuning_pipeline.dags import tuning_dags  # a DAG file of Airflow's\ntuning_dags({folder!r})\n"


@dataclass(frozen=True)
class Installed:
    """What a user of the wheel has.

    Attributes:
        folder: Their folder: dags/, exports/.
        airflow, engine: The programs of the two environments.
        environment: The variables of their shell.
    """

    folder: Path
    airflow: Path
    engine: Path
    environment: dict[str, str]

    def run(self, *command: str | Path, code: int = 0, stdin: str = "") -> str:
        return run_program(command, env=self.environment, cwd=self.folder, code=code, stdin=stdin).stdout


@pytest.fixture(scope="module")
def wheel() -> Iterator[Path]:
    with scratch_folder() as folder:
        yield build_wheel(Layout(REPOSITORY), folder)


@pytest.fixture(scope="module")
def installed(wheel: Path, spark_cluster: SparkCluster) -> Iterator[Installed]:
    layout = Layout(REPOSITORY)
    with scratch_folder() as folder:
        for name in ("airflow", "spark"):
            build(layout, Lock(f"a user's {name} environment", folder / name, layout.requirements / f"{name}.txt"))
        for name, wanted in (("airflow", f"{wheel}[airflow]"), ("spark", f"{wheel}[engine]")):
            # A version of ours that the wheel does not take would end this.
            python = folder / name / "bin" / "python"
            install: list[str | Path] = [
                uv(layout),
                "pip",
                "install",
                "--python",
                python,
                "--excludes",
                excludes(folder),
            ]
            run_program([*install, "--constraints", locked(folder, name), wanted], env=uv_environment())
        studies = folder / "dags" / "studies"
        studies.mkdir(parents=True)
        (studies / "small.yaml").write_text(STUDY)
        (folder / "dags" / "mine.py").write_text(TWO_LINES.format(folder=str(studies)))
        environment = {
            "HOME": str(folder),
            "PATH": f"{folder}/airflow/bin:{folder}/spark/bin:/usr/local/bin:/usr/bin:/bin",
            "AIRFLOW_HOME": str(folder / "home"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_TUNING_DB": json.dumps({"conn_type": "sqlite", "host": str(folder / "study.db")}),
            "AIRFLOW_CONN_TUNING_SPARK": json.dumps(
                {"conn_type": "spark", "host": "spark://127.0.0.1", "port": spark_cluster.port}
            ),
            "SPARK_CONF_DIR": str(spark_cluster.conf_dir),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_PYTHON": str(folder / "spark" / "bin" / "python"),
            "PYSPARK_DRIVER_PYTHON": str(folder / "spark" / "bin" / "python"),
            **{name: os.environ[name] for name in ("JAVA_HOME",) if name in os.environ},
        }
        found = Installed(folder, folder / "airflow" / "bin", folder / "spark" / "bin", environment)
        found.run(found.airflow / "airflow", "db", "migrate")
        yield found


def excludes(folder: Path) -> Path:
    """Packages that the locks leave out, though somebody asks for them; see init/local/locks.py."""
    file = folder / "excludes.txt"
    file.write_text("mysqlclient\nmysql-connector-python\npyspark-client\nnvidia-nccl-cu12\n")
    return file


def locked(folder: Path, side: str) -> Path:
    """The locked versions of a side, and the other side's of what it does not have."""
    other = "spark" if side == "airflow" else "airflow"
    own = requirements(side)
    known = {line.partition("==")[0] for line in own}
    lines = own + [line for line in requirements(other) if line.partition("==")[0] not in known]
    file = folder / f"{side}-versions.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


def requirements(side: str) -> list[str]:
    """The requirements of a lock, without hashes: `name==version ; marker`."""
    text = (REPOSITORY / "requirements" / f"{side}.txt").read_text()
    return [line.removesuffix("\\").strip() for line in text.splitlines() if re.match(r"[A-Za-z0-9_.-]+==", line)]


def test_the_wheel_holds_both_packages_and_what_travels_to_a_cluster(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for top, package in (("jobs", "optuna_spark"), ("plugins", "tuning_pipeline")):
        sources = {p.relative_to(REPOSITORY / top).as_posix() for p in (REPOSITORY / top / package).rglob("*.py")}
        assert sources <= names
    shipped = {name.removeprefix("tuning_pipeline/shipped/") for name in names if "/shipped/" in name}
    assert {"jobs/tune.py", "jobs/tune_databricks.py", "init/databricks/init_optuna.sh"} <= shipped
    assert all((REPOSITORY / name).read_bytes() for name in shipped)


def test_the_sources_are_out_of_reach(installed: Installed) -> None:
    where = "import optuna_spark, tuning_pipeline; print(optuna_spark.__file__, tuning_pipeline.__file__)"
    assert str(REPOSITORY) not in installed.run(installed.airflow / "python", "-c", where)


def test_airflow_has_the_plugin_and_the_dags_of_the_folder(installed: Installed) -> None:
    plugins = rows(installed.run(installed.airflow / "airflow", "plugins", "--output", "json"))
    assert "tuning" in [plugin["name"] for plugin in plugins]
    installed.run(installed.airflow / "airflow", "dags", "reserialize")
    dags = rows(installed.run(installed.airflow / "airflow", "dags", "list", "--output", "json"))
    assert [dag["dag_id"] for dag in dags] == ["tune_small"]


def rows(printed: str) -> list[dict[str, str]]:
    """The answer of a command, which Airflow may print lines before."""
    found: list[dict[str, str]] = json.loads(printed[printed.index("[{") :])
    return found


def test_a_study_runs_and_its_commands_show_and_delete_it(installed: Installed) -> None:
    tuning = installed.airflow / "tuning"
    assert installed.run(tuning, "check") == "ok: small.yaml, DAG tune_small\n"
    installed.run(installed.airflow / "airflow", "dags", "test", "tune_small")
    url = installed.run(tuning, "study-url", "small").strip()
    study = optuna.load_study(study_name="small", storage=url)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 4
    with (installed.folder / "exports" / "small" / "latest" / "best_trials.csv").open() as exported:
        assert len(list(csv.reader(exported))) == 5
    assert [line.split()[:2] for line in installed.run(tuning, "studies").splitlines()[1:]] == [["small", "4"]]
    kept = installed.run(tuning, "studies", "--delete", "small", stdin="no\n", code=1)
    assert kept.endswith("delete? [y/N] nothing was deleted\n")
    gone = installed.run(tuning, "studies", "--delete", "small", "--yes")
    assert "4 trials go, and cannot be brought back" in gone
    assert optuna.get_all_study_names(url) == []


def test_the_spark_side_tunes_by_itself(installed: Installed) -> None:
    url = f"sqlite:///{installed.folder}/by_hand.db"
    command: list[str | Path] = [
        installed.engine / "optuna-spark-tune",
        "--distribution",
        "local",
        "--trials",
        "3",
        "--storage",
        url,
    ]
    installed.run(*command)
    (name,) = optuna.get_all_study_names(url)
    assert len(optuna.load_study(study_name=name, storage=url).trials) == 3
