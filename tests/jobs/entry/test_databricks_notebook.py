"""The notebook, run from its first cell to its last on a real local Spark."""

from __future__ import annotations

from pathlib import Path

import pytest

from init.local.layout import REPOSITORY
from tests.support.programs import run_program
from tests.support.submit import QUICK_JVM, SUBMIT, pack_package, submit_environment

NOTEBOOK = REPOSITORY / "jobs" / "notebook_databricks.py"


def test_databricks_takes_the_file_for_a_notebook() -> None:
    lines = NOTEBOOK.read_text().splitlines()
    assert lines[0] == "# Databricks notebook source"
    assert lines.count("# COMMAND ----------") >= 5


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b,y\n" + "".join(f"{i},{i % 7},{i * 2 + i % 3}\n" for i in range(80)))
    temp = tmp_path / "temp"
    temp.mkdir()
    environment = submit_environment(
        TUNING_PACKAGE=str(pack_package(tmp_path)), TUNING_TABLE=str(table), TMPDIR=str(temp)
    )
    java = f"{QUICK_JVM} -Djava.io.tmpdir={temp} -XX:-UsePerfData"
    conf = [f"spark.driver.extraJavaOptions={java}", f"spark.local.dir={temp}", "spark.ui.enabled=false"]
    options = [part for text in conf for part in ("--conf", text)]
    command = [str(SUBMIT), "--master", "local[4]", *options, str(NOTEBOOK)]
    done = run_program(command, env=environment, together=True, seconds=600)
    for name in ("joblib", "rdd", "dataframe", "xgboost"):
        assert f"\n{name}: 8 trials, best " in done.stdout
    assert list(temp.iterdir()) == []
