"""A submission that spark-submit itself refuses is a card with Spark's own sentence, and is not tried again."""

from __future__ import annotations

import pytest

from tests.support.programs import run_program
from tests.support.submit import SUBMIT, TUNE, submit_environment
from tuning_pipeline.targets.standalone.refused import refused_submission


@pytest.mark.slow
@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        ("spark.executor.memory=0", "Executor memory must be a positive number"),
        ("spark.executor.cores=0", "Executor cores must be a positive number"),
        ("spark.driver.memory=1k", "eap"),  # Java's launcher: too small an initial heap
    ],
)
def test_what_spark_submit_refuses_is_its_own_sentence(conf: str, sentence: str) -> None:
    command = [str(SUBMIT), "--master", "spark://127.0.0.1:1", "--conf", conf, str(TUNE)]
    done = run_program(command, env=submit_environment(), code=None, together=True, seconds=300)
    assert done.returncode != 0
    failure = refused_submission(done.stdout)
    assert failure is not None, done.stdout
    assert failure.what.startswith("Spark refuses the application: ")
    assert sentence in failure.what
    assert not failure.retry


def test_other_endings_are_no_refusal() -> None:
    assert refused_submission("Killed\n") is None
    assert refused_submission('Exception in thread "main" java.net.ConnectException: no route\n') is None
    away = "java.lang.IllegalArgumentException: requirement failed: Can only call getServletHandlers on a running"
    assert refused_submission(f'Exception in thread "main" {away} MetricsSystem\n') is None
    waited = "org.apache.spark.SparkException: Exception thrown in awaitResult:"
    assert refused_submission(f'Exception in thread "main" {waited}\n') is None
