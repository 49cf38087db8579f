"""Runs a study through `airflow dags test`, and shows its result."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from init.local import airflow
from init.local.console import complain, detail, say, show
from init.local.errors import SetupError
from init.local.layout import Layout
from init.local.processes import Service, tied_to_parent
from init.local.watch import RunWatcher

STOP_GRACE_S = 30.0
# Exit codes after SIGINT, SIGKILL and SIGTERM, as a shell reports them.
STOPPED = tuple(128 + number for number in (signal.SIGINT, signal.SIGKILL, signal.SIGTERM))


def check_request(layout: Layout, study: str, trials: str) -> None:
    """Refuses a request that cannot work, before anything slow begins.

    Raises:
        SetupError: There is no such study, two files have its name, or trials is not a whole number of at least 1.
    """
    study_file(layout, study)
    if trials and (not trials.isdecimal() or int(trials) < 1):
        raise SetupError(f"TRIALS must be a whole number of at least 1, got {trials!r}")


def study_file(layout: Layout, study: str) -> Path:
    """The file of a study.

    Raises:
        SetupError: There is none, or there are two, <study>.yaml and <study>.yml.
    """
    folder = layout.root / "dags" / "studies"
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    found = [file for file in files if file.stem == study]
    if not found:
        known = ", ".join(sorted({file.stem for file in files}))
        raise SetupError(f"STUDY must be one of the files in dags/studies ({known}), got {study!r}")
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise SetupError(f"dags/studies has {names}, which would both be DAG tune_{study}: rename one of them")
    return found[0]


def run_study(layout: Layout, study: str, trials: str, env: Mapping[str, str]) -> int:
    """Runs the study's DAG and shows its progress. Returns the exit code of `airflow dags test`."""
    command = [str(airflow.program(layout)), "dags", "test", f"tune_{study}"]
    if trials:
        command += ["--conf", json.dumps({"trials": int(trials)})]
    say(f"starting Airflow: tune_{study}" + (f", {trials} trials" if trials else ""))
    log = layout.logs / f"run-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    watcher = RunWatcher(show)
    code = follow(layout, command, env, log, watcher)
    if code == 0:
        show_result(watcher.exported)
    elif code in STOPPED or watcher.last_exception == "KeyboardInterrupt":
        say("the run was stopped; the same command goes on with its study")
    else:
        show_failure(watcher)
    detail(f"full log: {log}")
    return code


def tuning(layout: Layout, arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Runs the command `tuning` on the checkout's studies. Returns its exit code."""
    paths = os.pathsep.join([str(layout.root / "plugins"), env["PYTHONPATH"]])
    command = [str(layout.airflow_env / "bin" / "python"), "-m", "tuning_pipeline.commands", *arguments]
    command += ["--folder", str(layout.root / "dags" / "studies")]
    return subprocess.run(command, env={**env} | {"PYTHONPATH": paths}).returncode


def follow(layout: Layout, command: list[str], env: Mapping[str, str], log: Path, watcher: RunWatcher) -> int:
    """Runs the command, and passes its output to the log and the watcher. Ctrl-C ends it in good order."""
    # In a session of its own: otherwise Ctrl-C would reach Airflow's processes directly, all at once.
    process = subprocess.Popen(
        tied_to_parent(command, signal_name="INT"), env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    service = Service(f"run-{process.pid}", layout.state)
    service.adopt(process.pid, {})
    try:
        assert process.stdout is not None
        with log.open("w") as output:
            for line in process.stdout:
                output.write(line)
                output.flush()
                watcher.feed(line)
        code = process.wait()
        return code if code >= 0 else 128 - code
    except KeyboardInterrupt:
        say("stopping the run")
        process.send_signal(signal.SIGINT)
        wait_or_kill(process)
        return 130
    finally:
        service.stop()


def wait_or_kill(process: subprocess.Popen[str]) -> None:
    try:
        process.communicate(timeout=STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def show_failure(watcher: RunWatcher) -> None:
    if not watcher.saw_card:
        reason = watcher.last_exception or "see the end of the full log"
        complain(f"the run failed: {reason}")
        for file, error in watcher.broken_dags.items():
            detail(f"{file} cannot be loaded: {error}")


def show_result(exported: str | None) -> None:
    """Prints the best value, the best parameters and the folder of the exports.

    Args:
        exported: Folder or URL that the run said it has exported to; None if it exported nothing.
    """
    if exported is None:
        say("done; this run exported nothing")
        return
    folder = Path(exported)
    try:
        best = json.loads((folder / "best_params.json").read_text())
    except (OSError, ValueError):  # an object store, for one, which only Airflow can read
        say(f"done; the exports are in {exported}")
        return
    say(f"done: {headline(best)}")
    for name, value in (best.get("params") or {}).items():
        detail(f"{name} = {value}")
    detail(f"exports: {folder.resolve()}")


def headline(best: Mapping[str, Any]) -> str:
    """The best value, or the values of the first trial on the Pareto front."""
    values = best.get("values")
    shown = values if isinstance(values, list) and len(values) > 1 else best.get("value")
    trial = f", trial {best['trial']}" if best.get("trial") is not None else ""
    return f"best value {shown}{trial}"
