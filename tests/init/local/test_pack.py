"""`make pack`: a job runs with nothing but the shipped archive."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from init.local.layout import REPOSITORY
from init.local.spark import SparkCluster
from tests.support.programs import run_program
from tuning_pipeline.targets.standalone.submission import shipped_archive

JOB = """
import sys
from pyspark.sql import SparkSession

def where(_):
    import optuna, pyarrow, sklearn, xgboost
    modules = (optuna, pyarrow, sklearn, xgboost)
    return sys.prefix, [module.__file__ for module in modules], xgboost.__version__

spark = SparkSession.builder.getOrCreate()
prefix, files, version = spark.sparkContext.parallelize([0], 1).map(where).first()
assert all(file.startswith(prefix) for file in files), files
print(f"worker prefix {prefix} xgboost {version}")
"""


@pytest.mark.slow
def test_a_worker_runs_with_the_archive_alone(spark_cluster: SparkCluster, tmp_path: Path) -> None:
    run_program(["make", "--silent", "pack"], cwd=REPOSITORY, seconds=1800)
    archive = tmp_path / "my folder" / "environment.tar.gz"
    archive.parent.mkdir()
    archive.symlink_to(REPOSITORY / ".state" / "pack" / "environment.tar.gz")
    job = tmp_path / "job.py"
    job.write_text(JOB)
    command = [str(REPOSITORY / "init" / "spark" / "bin" / "spark-submit"), "--master", spark_cluster.master_url]
    command += [
        "--archives",
        shipped_archive(f"{archive}#environment"),
        "--conf",
        "spark.pyspark.python=./environment/bin/python",
    ]
    env = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "TUNING_SPARK_ENV": str(spark_cluster.spark_env)}
    done = run_program([*command, job], env=env)
    assert f"{spark_cluster.state}/spark/work" in done.stdout
    assert "xgboost 3.2.0" in done.stdout
