"""The guard of a service: what becomes of the orphans below it while the service runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from init.local.layout import REPOSITORY
from tests.support.waiting import wait_until

# Its child ends and leaves a grandchild, which says its number, its new parent's, and ends as well.
ORPHANS = """
import os, time

for _ in range(3):
    if not os.fork():
        parent = os.getpid()
        if not os.fork():
            while os.getppid() == parent:
                time.sleep(0.01)
            os.write(1, f"{os.getpid()} {os.getppid()}\\n".encode())  # at once: three of them write
        os._exit(0)
    os.wait()
time.sleep(600)
"""


def test_orphans_are_taken_in_and_none_stays_a_zombie() -> None:
    guard = [sys.executable, "-P", str(REPOSITORY / "init" / "local" / "guard.py")]
    process = subprocess.Popen([*guard, sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline().split() for _ in range(3)]
        assert [parent for _, parent in lines] == [str(process.pid)] * 3
        orphans = [Path("/proc", orphan) for orphan, _ in lines]
        wait_until(lambda: not any(orphan.exists() for orphan in orphans), "the orphans to be gone")
    finally:
        process.terminate()
        assert process.wait(timeout=120) == 0
