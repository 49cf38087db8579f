"""A DAG folder of a test's own, parsed and run by the real Airflow."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import run_program

DAGS = Path(__file__).parents[2] / "dags"
# A study that needs no data, and whose failed tasks fail at once.
QUICK_STUDY = "objective: quadratic\nretries: 0\ntrials: 4\ntasks: 2\nseed: 1\ndistribution: rdd\n"


@dataclass(frozen=True)
class DagFolder:
    """The repository's DAG files with other studies."""

    path: Path

    @classmethod
    def create(cls, path: Path, **studies: str) -> DagFolder:
        (path / "studies").mkdir(parents=True)
        for file in (*DAGS.glob("*.py"), DAGS / ".airflowignore"):
            shutil.copy(file, path)
        folder = cls(path)
        for name, text in studies.items():
            folder.write_study(name, text)
        return folder

    def write_study(self, name: str, text: str) -> None:
        (self.path / "studies" / f"{name}.yaml").write_text(text)

    def bag(self) -> Any:
        from airflow.dag_processing.dagbag import DagBag

        return DagBag(str(self.path))

    def test(self, dag_id: str, conf: dict[str, Any] | None = None) -> dict[str, str]:
        """Run the DAG as `airflow dags test` does. Returns the state of each task."""
        dag_run = self.bag().dags[dag_id].test(run_conf=conf)
        return {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()}

    def use(self, patch: pytest.MonkeyPatch) -> None:
        """Make this folder Airflow's."""
        bundle = {
            "name": "dags-folder",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(self.path)},
        }
        patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))


def write_own_code(studies: Path) -> None:
    """An objective as people have it, churn:objective: module, helper, a package with data, one without __init__."""
    files = {
        # As `jupyter nbconvert --to script` writes it.
        "churn.py": "#!/usr/bin/env python\n# coding: utf-8\n\n# In[1]:\n\n\nimport churn_features\n\n\n# In[2]:\n\n\n"
        "def objective(trial):\n    from mymodel.train import loss\n\n"
        "    trial.set_user_attr('weights', churn_features.weights())\n    return loss(trial)\n",
        "churn_features.py": "from lookup import weights\n",
        "lookup/__init__.py": "import json\nfrom importlib.resources import files\n\n\n"
        "def weights():\n    return json.loads(files('lookup').joinpath('data/weights.json').read_text())\n",
        "lookup/data/weights.json": "[3, 4]",
        "mymodel/train.py": "from mymodel.deep.space import x\n\n\ndef loss(trial):\n    return x(trial) ** 2\n",
        "mymodel/deep/space.py": "def x(trial):\n    return trial.suggest_float('x', -1, 1)\n",
    }
    for name, text in files.items():
        file = studies / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@cache
def migrated_home() -> str:
    """AIRFLOW_HOME, with its metadata database made.

    `make test` sets it before Airflow is imported; without it the tests would use the user's own.
    """
    home = os.environ.get("AIRFLOW_HOME")
    if not home:
        pytest.skip("AIRFLOW_HOME is not set: run `make test`, or set it to a scratch folder")
    Path(home).mkdir(parents=True, exist_ok=True)
    run_program([sys.executable, "-m", "airflow", "db", "migrate"])
    return home
