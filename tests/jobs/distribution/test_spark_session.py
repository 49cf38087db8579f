"""What the session asks of the executors, and the daemon that imports before it forks."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import cast

import pytest
from pyspark import SparkContext

from init.local.layout import REPOSITORY
from optuna_spark.distribution.python_daemon import without_zipped_pyspark
from optuna_spark.distribution.spark_session import (
    DAEMON,
    QUICK_START,
    early_imports,
    modules_to_import,
    quick_start,
    wake_executors,
)
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ResourceSpec
from optuna_spark.spec.tuning import TuningSpec
from tests.support.programs import run_python

JAVA_OPTIONS, COMPRESS = "spark.executor.defaultJavaOptions", "spark.broadcast.compress"
SPEC = TuningSpec(study_name="study", distribution="rdd")
STANDALONE = {"spark.master": "spark://host:7077", "spark.files": "/a.zip,/b.csv"}

# What the daemon does before it forks, and what a child of it finds.
LOOK = """
import os, sys
from pathlib import Path
from optuna_spark.distribution import python_daemon as daemon
daemon.import_early(Path({folder!r}), ["shipped", "optuna_spark.distribution.launch", "not_there"])
daemon.forget_zip_finders()
threads = len(os.listdir("/proc/self/task"))
print(threads, "shipped" in sys.modules, "pyarrow" in sys.modules, "pandas" in sys.modules)
"""

ROOM = REPOSITORY / "jobs" / "optuna_spark" / "distribution"
TABLE = DataSpec("/t.csv")
IMPORT = """
from pathlib import Path
from optuna_spark.distribution import python_daemon as daemon
daemon.import_early(Path(), {modules!r})
"""

# What is still loaded when a worker of a run that the database coordinates opens its storage.
OPEN = """
import os, sys
from pathlib import Path
from optuna_spark.distribution import python_daemon as daemon
daemon.import_early(Path(), {modules!r})
threads, before = len(os.listdir("/proc/self/task")), set(sys.modules)
import optuna, pymysql
from optuna_spark.worker.database_source import DatabaseSource, rehearse
rehearse()
print(threads, *sorted(set(sys.modules) - before))
"""

# What is still loaded when a worker of a run that the driver coordinates makes its objective and connects.
CONNECT = """
import socket, sys
from pathlib import Path
from optuna_spark.distribution import python_daemon as daemon
daemon.import_early(Path(), {modules!r})
before = set(sys.modules)
from optuna_spark.objectives.custom import load_objective
load_objective("math:sqrt", None)
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname())
print(sorted(set(sys.modules) - before), {{"sqlalchemy", "pymysql"}} & set(sys.modules))
"""

# Two workers that train what the daemon has imported.
TRAIN = """
import os, sys, warnings
from pathlib import Path
# From Python 3.12 on it warns of every other thread; here that is Arrow's allocator's, which is made for forks.
warnings.filterwarnings("ignore", message=".*use of fork", category=DeprecationWarning)
from optuna_spark.distribution import python_daemon as daemon
daemon.import_early(Path(), {modules!r})
print("xgboost" in sys.modules, flush=True)
for _ in range(2):
    if not os.fork():
        import numpy as np, xgboost
        rows = np.random.default_rng(0).random((2000, 5))
        matrix = xgboost.QuantileDMatrix(rows, rows.sum(axis=1), nthread=2)
        xgboost.train(dict(nthread=2), matrix, num_boost_round=5)
        print("trained", flush=True)
        os._exit(0)
for _ in range(2):
    assert os.wait()[1] == 0
"""

# The daemon's own next number, and those of two workers.
DRAW = """
import os
import numpy as np
import numpy.random
from optuna_spark.distribution import python_daemon as daemon
os.register_at_fork(after_in_child=daemon.reseed)
for _ in range(2):
    if not os.fork():
        print(np.random.random(), flush=True)
        os._exit(0)
    os.wait()
print(np.random.random())
"""


def test_a_standalone_run_ships_the_daemon_beside_the_other_files() -> None:
    conf = early_imports(SPEC, STANDALONE)
    assert conf["spark.python.daemon.module"] == DAEMON
    *others, daemon = conf["spark.files"].split(",")
    assert others == ["/a.zip", "/b.csv"]
    assert Path(daemon).name == f"{DAEMON}.py"
    assert Path(daemon).read_text() == (ROOM / "python_daemon.py").read_text()


@pytest.mark.parametrize(
    "conf", [{}, {"spark.master": "local[2]"}, {**STANDALONE, "spark.python.daemon.module": "my.daemon"}]
)
def test_other_masters_and_daemons_are_left_alone(conf: dict[str, str]) -> None:
    assert early_imports(SPEC, conf) == {}


@pytest.mark.parametrize(
    ("spec", "conf", "chosen"),
    [
        (SPEC, STANDALONE, {JAVA_OPTIONS, COMPRESS}),
        (TuningSpec(study_name="study", distribution="dataframe"), STANDALONE, {JAVA_OPTIONS, COMPRESS}),
        (TuningSpec(study_name="study", distribution="dataframe", data=DataSpec("/t.parquet")), STANDALONE, set()),
        (SPEC, {**STANDALONE, JAVA_OPTIONS: "-Xss2m"}, {COMPRESS}),
        (SPEC, {**STANDALONE, COMPRESS: "true"}, {JAVA_OPTIONS}),
        (SPEC, {}, set()),
    ],
)
def test_executors_start_quickly_unless_their_java_has_work_to_do_or_was_configured(
    spec: TuningSpec, conf: dict[str, str], chosen: set[str]
) -> None:
    assert quick_start(spec, conf) == {name: QUICK_START[name] for name in chosen}


def test_executors_that_cannot_be_woken_are_left_to_the_run() -> None:
    class Stopped:
        def parallelize(self, *_: object) -> object:
            raise RuntimeError("Cannot call methods on a stopped SparkContext")

    stopped = cast(SparkContext, Stopped())
    wake_executors(stopped).join(10)  # pytest would report an exception of a thread


def test_the_daemon_imports_shipped_packages_and_starts_no_thread(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "shipped.zip", "w") as archive:
        archive.writestr("shipped.py", "")
    done = run_python(LOOK.format(folder=str(tmp_path)))
    assert done.stdout.split() == ["1", "True", "False", "False"]
    assert "not_there" in done.stderr


def test_the_daemon_loads_all_that_a_worker_needs_to_work_with_the_database() -> None:
    modules = modules_to_import(TuningSpec(study_name="study", distribution="rdd", coordination="database"))
    done = run_python(OPEN.format(modules=modules))
    assert done.stdout.split() == ["1"]
    assert done.stderr == ""


@pytest.mark.parametrize(("package", "kept"), [("site", ["a", "site"]), ("site/pyspark/python", ["a", "{}", "site"])])
def test_the_daemon_takes_pyspark_from_where_it_is_compiled(tmp_path: Path, package: str, kept: list[str]) -> None:
    site, folder = str(tmp_path / "site"), str(tmp_path / package)
    zipped = str(tmp_path / "site/pyspark/python/lib/pyspark.zip")
    assert without_zipped_pyspark(["a", zipped, site]) == ["a", zipped, site]
    (tmp_path / package / "pyspark").mkdir(parents=True)
    (tmp_path / package / "pyspark" / "__init__.py").touch()
    if folder == site:
        assert without_zipped_pyspark(["a", zipped]) == ["a", zipped]  # the packages of another Python
    assert without_zipped_pyspark(["a", zipped, site]) == [{"{}": folder, "site": site}.get(e, e) for e in kept]


EVERY_WAY = [
    TuningSpec(study_name="study", distribution=way, coordination=coordination, objective="xgboost", data=TABLE)
    for way in ("rdd", "joblib", "dataframe")
    for coordination in ("driver", "database")
]


@pytest.mark.parametrize("spec", EVERY_WAY, ids=lambda spec: f"{spec.distribution}-{spec.coordination}")
def test_everything_that_the_daemon_is_to_import_is_there(spec: TuningSpec) -> None:
    """A failed import is only a warning in the executor's log: the run would be slower, and nobody would know."""
    done = run_python(IMPORT.format(modules=modules_to_import(spec)))
    assert done.stderr == ""


def test_the_daemon_loads_all_that_a_worker_of_the_driver_needs_and_no_database_modules() -> None:
    done = run_python(CONNECT.format(modules=modules_to_import(SPEC)))
    assert done.stdout.split() == ["[]", "set()"]


def test_xgboost_is_loaded_before_the_fork_and_works_after_it() -> None:
    spec = TuningSpec(study_name="study", distribution="rdd", objective="xgboost", data=DataSpec("/t.csv"))
    done = run_python(TRAIN.format(modules=modules_to_import(spec)))
    assert done.stdout.split() == ["True", "trained", "trained"]
    assert done.stderr == ""


def test_xgboost_is_not_loaded_before_the_fork_where_it_might_touch_cuda() -> None:
    gpus = ResourceSpec(gpus_per_task=0.5)
    spec = TuningSpec(study_name="study", objective="xgboost", data=DataSpec("/t.csv"), resources=gpus)
    assert not any("xgboost" in module for module in modules_to_import(spec))


def test_forked_workers_draw_different_numbers() -> None:
    done = run_python(DRAW)
    assert len(set(done.stdout.split())) == 3
