"""Objectives for tests, written for plain Optuna."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any


def parabola(trial: Any) -> float:
    x = trial.suggest_float("x", -10, 10)
    return float((x - 2) ** 2)


def reports_twice(trial: Any) -> float:
    value = parabola(trial)
    for step in (0, 1):
        trial.report(value + step, step)
    return value


class Diary:
    """A callback that notes in a file what it is told, one line each; fails in what `fails` names."""

    def __init__(self, path: str, fails: str = "") -> None:
        self._path, self._fails = path, fails

    def trial_started(self, number: int) -> None:
        self._note("started", number)

    def trial_reported(self, number: int, step: int, value: float) -> None:
        self._note("reported", number, step)

    def trial_ended(self, trial: Any) -> None:
        self._note("ended", trial.number, trial.state.name, trial.values)

    def run_ended(self, reason: str | None) -> None:
        self._note("run ended", reason)

    def _note(self, event: str, *facts: object) -> None:
        if self._fails and self._fails in event:
            raise OSError("the tracker cannot be reached")
        with Path(self._path).open("a") as file:
            file.write(" ".join(map(str, (event, *facts))) + "\n")


def slow_parabola(trial: Any) -> float:
    time.sleep(0.2)
    return parabola(trial)


def parabola_of_two_seconds(trial: Any) -> float:
    value = parabola(trial)
    time.sleep(2)
    return value


def first_one_hangs(trial: Any) -> float:
    """The first trial never ends, and its process ignores SIGTERM."""
    value = parabola(trial)
    if trial.number == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    time.sleep(0.1)
    return value


def stops_its_study(trial: Any) -> float:
    """As `first_one_hangs`; the third trial ends the study."""
    if trial.number == 2:
        trial.study.stop()
    return first_one_hangs(trial)


def never_lets_go(trial: Any) -> float:
    """Starts a thread for which Python waits at the end of the process."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    return parabola(trial)


def slow_constant(trial: Any) -> float:
    trial.suggest_float("x", -10, 10)
    time.sleep(0.05)
    return 1.0


def two_values(trial: Any) -> tuple[float, float]:
    x = trial.suggest_float("x", -10, 10)
    return x**2, (x - 2) ** 2


def always_fails(trial: Any) -> float:
    raise ValueError(f"cannot train with x={trial.suggest_float('x', 0, 1):.1f}")


def sometimes_fails(trial: Any) -> float:
    if trial.number % 3 == 1:
        raise RuntimeError("every third trial fails")
    return parabola(trial)


def returns_nan(trial: Any) -> float:
    return parabola(trial) if trial.number != 2 else float("nan")


def dies_once(trial: Any) -> float:
    """The first trial ever kills its worker the hard way."""
    value = parabola(trial)
    marker = Path(os.environ["TEST_MARKER"])
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return value


NAMES_OF_NOTES = {"run_id": "mine", "worker": 7, "retries": "many", "retried_from": "none", "error": "small"}


def uses_the_names_of_notes(trial: Any) -> float:
    """Has attributes named like the run's notes. The first trial ever kills its worker once these are known."""
    for name, value in NAMES_OF_NOTES.items():
        trial.set_user_attr(name, value)
    trial.should_prune()  # sends them
    return dies_once(trial)


def table_shape(trial: Any, context: Any) -> float:
    """What the worker was given of the table that Spark read."""
    trial.set_user_attr("table", {"rows": context.table.num_rows, "columns": context.table.column_names})
    return parabola(trial)


def table_content(trial: Any, context: Any) -> float:
    """The whole table, as the worker reads it or was given it."""
    trial.set_user_attr("table", context.read_table().to_pydict())
    trial.set_user_attr("spark_read_it", context.table is not None)
    return parabola(trial)


def gpu_address(trial: Any, context: Any) -> float:
    """Which GPU the worker was given, if any; needs none to be there. Waits until every worker runs a trial."""
    from optuna_spark.distribution.spark_tasks import gpu_addresses

    addresses = gpu_addresses()
    trial.set_user_attr("gpu", addresses[0] if addresses else None)
    meeting = Path(trial.suggest_categorical("meeting", context.spec.search_space["meeting"].choices))
    (meeting / str(os.getpid())).touch()
    for _ in range(600):
        if len(list(meeting.iterdir())) == context.spec.tasks:
            return 0.0
        time.sleep(0.1)
    raise TimeoutError("the other workers did not come")


def environment(trial: Any) -> float:
    """What a trial can read of its process's environment."""
    trial.set_user_attr("environment", dict(os.environ))
    return 0.0


def guarded(trial: Any, context: Any) -> float:
    """What a worker found of its secrets, as digests; says that it began, and ends once the file `go` is there."""
    found = hashlib.sha256(os.environ.get("LAKE_CODE", "").encode()).hexdigest()
    trial.set_user_attr("found", found)
    trial.set_user_attr("columns", context.table.column_names)
    trial.set_user_attr("options", sorted(context.data_secrets.options))
    go = Path(trial.suggest_categorical("go", context.spec.search_space["go"].choices))
    go.with_suffix(".begun").touch()
    for _ in range(9000):
        if go.exists():
            return 0.0
        time.sleep(0.1)
    raise TimeoutError("nobody made the file")


def overwrites(trial: Any, context: Any) -> float:
    """Replaces its own table in a store, and reads that."""
    import urllib.request

    address = context.data_secrets.store["endpoint_url"] + "/" + context.spec.data.location.removeprefix("s3://")
    headers = {"Content-Type": "application/octet-stream", "Authorization": "AWS4-HMAC-SHA256 Credential=k/d/r/s3/x"}
    request = urllib.request.Request(address, f"a,y\n1,{trial.number + 100}\n".encode(), headers, method="PUT")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60).close()
    return float(context.read_table()["y"][0].as_py())
