"""A run on a cluster of its own, as `make run` starts one, and what is left of its temporary files.

    python -m tests.support.one_run killed|ended

For a process whose /tmp is its own. Prints as JSON what is in there and in the state folder's own temporary folders,
before and after what `make stop` does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from init.local import airflow, stack
from init.local.layout import Layout
from init.local.processes import birth
from init.local.spark import SparkCluster
from tests.support.processes import session_members
from tests.support.servers import spark_environment
from tests.support.submit import submit_command
from tests.support.waiting import wait_until

# Keeps a shuffled table, and has files of Python's on both sides; then tells, and waits to be killed where it is to be.
PROGRAM = """
import pathlib, sys, tempfile, time
from pyspark import SparkContext
from optuna_spark.distribution.spark_session import _daemon_file

def task(_):
    return tempfile.mkdtemp(prefix="of-a-task-")

context = SparkContext()
context.parallelize(range(1000), 2).map(lambda i: (i % 7, "x" * 1000)).groupByKey().persist().count()
context.parallelize([0], 1).map(task).collect()
_daemon_file()
pathlib.Path(sys.argv[1]).touch()
while sys.argv[2] == "killed":
    time.sleep(0.1)
"""


def main(end: str) -> dict[str, list[str]]:
    layout = Layout(Path(tempfile.mkdtemp(prefix="checkout-")))
    layout.prepare()
    cluster = SparkCluster(layout.state, spark_environment(), cores=2, die_with_parent=True)
    cluster.ensure()
    try:
        run(layout, cluster, end)
        seen = {"before": names(layout.scratch) + names(layout.state / "spark" / "tmp")}
    finally:
        stack.stop_services(layout)
    seen["after"] = names(layout.scratch) + names(layout.state / "spark" / "tmp")
    # Java keeps a folder for each account there, whatever java.io.tmpdir says.
    kept = (layout.root.name, "hsperfdata_")
    return seen | {"tmp": [name for name in names(Path("/tmp")) if not name.startswith(kept)]}


def run(layout: Layout, cluster: SparkCluster, end: str) -> None:
    ran, program, log = (layout.root / name for name in ("ran", "program.py", "driver.log"))
    program.write_text(PROGRAM)
    env = airflow.environment(layout, {}, None) | {"TUNING_SPARK_ENV": str(spark_environment())}
    command = submit_command(cluster.master_url, layout.root, [str(ran), end], {}, program)
    with log.open("w") as output:
        driver = subprocess.Popen(command, env=env, stdout=output, stderr=output, start_new_session=True)
    wait_until(lambda: ran.exists() or driver.poll() is not None, "the program to have run")
    assert ran.exists(), log.read_text()
    if end == "killed":
        worker = cluster.worker.pid
        for pid in (*session_members(driver.pid), worker):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: birth(worker) is None, "the worker to end")
    driver.wait(timeout=180)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
