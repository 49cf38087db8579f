"""jobs/tune_databricks.py on a real local Spark: what it leaves on the machine it ran on."""

from __future__ import annotations

import subprocess
from pathlib import Path

import optuna
import pytest

from init.local.layout import REPOSITORY
from optuna_spark.spec.tuning import TuningSpec
from tests.support.submit import QUICK_JVM, SUBMIT, pack_package, submit_environment

pytestmark = pytest.mark.slow


def run_job(folder: Path, spec: TuningSpec) -> subprocess.CompletedProcess[str]:
    """Run it with `folder`/temp for everybody's temporary files, and a file for the driver's database."""
    temp, home = folder / "temp", folder / "home"
    for new in (temp, home):
        new.mkdir()
    (home / "storage-url").write_text(f"sqlite:///{folder}/study.db\n")
    (folder / "spec.json").write_text(spec.to_json())
    conf = {
        "spark.ui.enabled": "false",
        "spark.local.dir": str(temp),
        "spark.driver.extraJavaOptions": f"{QUICK_JVM} -Djava.io.tmpdir={temp} -XX:-UsePerfData",
    }
    options = [part for name, value in conf.items() for part in ("--conf", f"{name}={value}")]
    job = [str(REPOSITORY / "jobs" / "tune_databricks.py"), str(pack_package(folder))]
    job += ["--spec-file", str(folder / "spec.json"), "--output", str(folder / "output")]
    return subprocess.run(
        [str(SUBMIT), "--master", "local[2]", *options, *job],
        env=submit_environment(TUNING_HOME=str(home), TMPDIR=str(temp)),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
    )  # fmt: skip


def test_a_run_leaves_nothing_in_the_temporary_folder(tmp_path: Path) -> None:
    spec = TuningSpec("tidy", objective="quadratic", run_id="1", trials=3, tasks=2, seed=1, distribution="rdd")
    done = run_job(tmp_path, spec)
    assert done.returncode == 0, done.stdout[-3000:]
    study = optuna.load_study(study_name="tidy", storage=f"sqlite:///{tmp_path}/study.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    assert list((tmp_path / "temp").iterdir()) == []


def test_a_run_that_fails_leaves_nothing_either(tmp_path: Path) -> None:
    done = run_job(
        tmp_path, TuningSpec("tidy", objective="nowhere:objective", run_id="1", trials=3, distribution="rdd")
    )
    assert done.returncode != 0
    assert "nowhere" in done.stdout
    assert list((tmp_path / "temp").iterdir()) == []
