"""A run with secrets on a real cluster: they do their work, and nobody who looks at Spark sees them."""

from __future__ import annotations

import hashlib
import re
import subprocess
import urllib.request
from pathlib import Path

import optuna
import pytest

from init.local.spark import SparkCluster
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_secrets import DataSecrets, RunSecrets
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from tests.support.processes import CommandLines
from tests.support.submit import submit_command, submit_environment
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

# Names that Spark's own rule knows, and names that it does not.
CODES = {
    "spark.executorEnv.LAKE_CODE": "hush-of-the-environment",
    "spark.hadoop.fs.azure.account.key.acct.dfs.core.windows.net": "hush-of-azure",
    "spark.hadoop.fs.s3a.bucket.lake.secret.key": "hush-of-s3a",
    "spark.sql.catalog.lake.sas": "hush-of-a-catalog",
}
OPTIONS = {"sep": ";", "password": "hush-of-the-reader", "pwd.of.mine": "hush-of-another"}
TRACES = {
    "spark.ui.enabled": "true",
    "spark.eventLog.enabled": "true",
    "spark.eventLog.compress": "false",
    "spark.eventLog.rolling.enabled": "false",
}


def write_run(folder: Path) -> list[str]:
    """A spec and its secrets, as the arguments of the job."""
    (folder / "t.csv").write_text("a;b;y\n" + "".join(f"{i};{i % 7};{3 * i}\n" for i in range(50)))
    spec = TuningSpec(
        "guarded",
        objective="sample_objectives:guarded",
        data=DataSpec(str(folder / "t.csv"), connection="lake"),
        search_space={"go": ParamSpec("categorical", choices=(str(folder / "go"),))},
        distribution="dataframe",
        trials=1,
        tasks=1,
    )
    (folder / "spec.json").write_text(spec.to_json())
    (folder / "secrets.json").write_text(RunSecrets(DataSecrets(options=OPTIONS), CODES).to_json())
    return ["--spec-file", str(folder / "spec.json"), "--secrets-file", str(folder / "secrets.json")]


def pages(url: str) -> str:
    """What Spark's pages show of the application, and what its REST API does."""
    (app,) = set(re.findall(r'"id" : "([^"]+)"', read(f"{url}/api/v1/applications")))
    paths = ("environment/", "SQL/", "SQL/execution/?id=0", f"api/v1/applications/{app}/environment")
    return "\n".join(read(f"{url}/{path}") for path in (*paths, f"api/v1/applications/{app}/sql?details=true"))


def read(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=30) as answer:
        return str(answer.read().decode())


@pytest.mark.attack("data sources", "secrets looked for in ps, Spark's pages, event log and output", times=7)
def test_secrets_work_and_show_nowhere(spark_cluster: SparkCluster, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.sqlite3"
    (events := tmp_path / "events").mkdir()
    conf = TRACES | {"spark.eventLog.dir": f"file://{events}"}
    command = submit_command(spark_cluster.master_url, tmp_path, write_run(tmp_path), conf)
    log = tmp_path / "output"
    with CommandLines() as lines:
        with log.open("w") as output:
            job = subprocess.Popen(
                command, env=submit_environment(OPTUNA_STORAGE_URL=url), stdout=output, stderr=subprocess.STDOUT
            )
        try:
            wait_until(lambda: (tmp_path / "go.begun").exists() or job.poll() is not None, "the trial to begin", 900)
            found = re.search(r"Spark UI while this runs: (\S+)", log.read_text())
            assert found, log.read_text()
            shown = pages(found[1])
        finally:
            (tmp_path / "go").touch()
            try:
                job.wait(300)
            finally:
                job.kill()
    assert job.returncode == 0, log.read_text()

    (trial,) = optuna.load_study(study_name="guarded", storage=url).trials
    assert trial.user_attrs["found"] == hashlib.sha256(CODES["spark.executorEnv.LAKE_CODE"].encode()).hexdigest()
    assert trial.user_attrs["columns"] == ["a", "b", "y"]  # the reader was told the separator
    assert trial.user_attrs["options"] == []  # and workers were not told how the table is opened

    assert not (tmp_path / "secrets.json").exists()
    assert "acct.dfs.core.windows.net" in shown
    (event_log,) = events.iterdir()
    texts = {"pages": shown, "event log": event_log.read_text(), "output": log.read_text()}
    for where, text in (*texts.items(), ("ps", "\n".join(lines.seen))):
        hits = [text[max(0, at.start() - 100) : at.end() + 40] for at in re.finditer("hush-of", text)]
        assert not hits, (where, hits)
    assert not lines.holding('"study_name":"guarded"')
    assert lines.holding("--spec-file")
