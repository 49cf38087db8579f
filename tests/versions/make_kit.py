"""python -m tests.versions.make_kit VERSION: writes what a version leaves with its users, for tests of later versions.

Run it once, with the version that is about to be released, in the environment of `make test` (AIRFLOW_HOME set). The
kit has the database as SQL, the study file, and the exports without their report, which is 5 MB of plot library.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.airflow import QUICK_STUDY, DagFolder, migrated_home
from tests.support.connections import SPARK, TUNING, set_connection
from tests.support.servers import private_spark

KITS = Path(__file__).parent
STUDY = f"{QUICK_STUDY}study: kept\nretune: {{warm_start: 2}}\nspark: {{executor_memory: 512m}}\n"


def make(kit: Path) -> None:
    """Run a small study from nothing, and keep what it left."""
    with tempfile.TemporaryDirectory(prefix="tuning-kit-") as name, pytest.MonkeyPatch.context() as patch:
        folder, database = Path(name), Path(name) / "study.db"
        migrated_home()
        dags = DagFolder.create(folder / "dags", kept=STUDY)
        dags.use(patch)
        patch.setenv("TUNING_EXPORTS", str(folder / "exports"))
        set_connection(patch, TUNING, conn_type="sqlite", host=str(database))
        with private_spark(cores=2) as cluster:
            set_connection(patch, SPARK, conn_type="spark", host="spark://127.0.0.1", port=cluster.port)
            states = dags.test("tune_kept")
        assert set(states.values()) == {"success"}, states
        kit.mkdir(parents=True)
        (kit / "kept.yaml").write_text(STUDY)
        with sqlite3.connect(database) as connection:
            (kit / "study.sql").write_text("\n".join(connection.iterdump()) + "\n")
        shutil.copytree(folder / "exports", kit / "exports", symlinks=True)
        for report in (kit / "exports").rglob("report.html"):
            report.unlink()


if __name__ == "__main__":
    make(KITS / sys.argv[1])
