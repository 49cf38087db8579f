"""python3 -P guard.py COMMAND...: runs a command, and ends every process that the command leaves behind.

Airflow's scheduler starts a process for each task, and these outlive a scheduler that is killed. The guard is a
subreaper (https://man7.org/linux/man-pages/man2/PR_SET_CHILD_SUBREAPER.2const.html): each process below it that loses
its parent becomes its child. So the guard can end all of them before it ends itself. If the guard is killed, the kernel
sends SIGTERM to the command, which ends its processes in good order.

It imports the standard library only, and nothing of this package: that would need PYTHONPATH, which the command would
inherit.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

PR_SET_CHILD_SUBREAPER = 36
TICK_S = 0.1
# Their sum is below the 30 s that `make stop` waits before it kills the guard.
COMMAND_GRACE_S = 8.0
CHILDREN_GRACE_S = 15.0
KILLS = 4


def become_subreaper() -> None:
    """Makes this process the parent of every orphan below it.

    Raises:
        OSError: The kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def descendants(pid: int) -> list[int]:
    """All living processes below `pid`: its children first, then theirs, and so on."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            state, parent, threads = fields[0], int(fields[1]), int(fields[17])
        except (OSError, ValueError, IndexError):
            continue
        if state not in "ZX" or threads > 1:  # a zombie whose other threads have not ended yet
            below.setdefault(parent, []).append(int(stat.parent.name))
    found = list(below.get(pid, []))
    for child in found:
        found += below.get(child, [])
    return found


def signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def reap() -> None:
    """Takes the exit codes of adopted children, so that none stays a zombie."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def reap_orphans(command: int) -> None:
    """Takes the exit codes of adopted children while the command runs, but leaves the command's own to `subprocess`.

    A guard runs for weeks. Each task of Airflow's whose process was killed would otherwise leave a zombie behind.
    """
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != command:
        os.waitpid(ended.si_pid, 0)


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(TICK_S)
    return True


def end_descendants() -> None:
    """Asks all processes below this one to end, and kills those that do not. Reports those that even then live on."""

    def none_left() -> bool:
        reap()
        return not descendants(os.getpid())

    signal_all(descendants(os.getpid()), signal.SIGTERM)
    for _ in range(KILLS):  # again and again: a process may start another one just before it is killed
        if wait(none_left, CHILDREN_GRACE_S):
            return
        signal_all(descendants(os.getpid()), signal.SIGKILL)
    if not wait(none_left, CHILDREN_GRACE_S):
        sys.stderr.write(f"guard: processes {descendants(os.getpid())} do not end even when they are killed\n")


def guard(command: list[str]) -> int:
    """Runs the command to its end, or until this process is asked to end. Returns the exit code."""
    become_subreaper()
    asked: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, remember)
    process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command])
    while process.poll() is None and not asked:
        reap_orphans(process.pid)
        time.sleep(TICK_S)
    if process.poll() is None:
        process.terminate()
        wait(lambda: process.poll() is not None, COMMAND_GRACE_S)
    end_descendants()
    code = process.returncode
    return 0 if asked else 1 if code is None else abs(code)


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1:]))
