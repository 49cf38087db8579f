"""What a trial on a cluster sees of the environments of those that started the cluster and the run."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from optuna_spark.spec.run_keys import Distribution
from optuna_spark.spec.tuning import TuningSpec
from tests.support.servers import private_spark
from tests.support.submit import submit

pytestmark = pytest.mark.slow


@pytest.mark.attack("a shared machine", "a password in the environment of a trial's process", times=4)
@pytest.mark.parametrize("distribution", ["rdd", "dataframe"])
def test_a_trial_sees_no_password(distribution: Distribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_X", "of the shell")
    url = f"sqlite:///{tmp_path}/study.sqlite3"
    with private_spark(cores=1) as cluster:
        spec = TuningSpec("s", objective="sample_objectives:environment", distribution=distribution, trials=1, tasks=1)
        done = submit(cluster.master_url, tmp_path, ["--spec", spec.to_json()], OPTUNA_STORAGE_URL=url)
        assert done.returncode == 0, done.stdout
        secret = (cluster.state / "spark" / "secret").read_text().strip()
        (trial,) = optuna.load_study(study_name=None, storage=url).trials
        seen = trial.user_attrs["environment"]
        assert not {"SECRET_X", "OPTUNA_STORAGE_URL", "TUNING_SPARK_SECRET_FILE"} & set(seen)
        assert not [name for name, value in seen.items() if secret in value or str(tmp_path) in value]
        assert seen["TMPDIR"] == str(cluster.state / "spark" / "tmp")
