"""What a process does, by its own view of the kernel's tables."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.waiting import wait_until

# pthread_exit ends the first thread of the program alone: what is left reads as a zombie and goes on.
SECOND_THREAD_ONLY = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@contextlib.contextmanager
def zombie_with_a_living_thread() -> Iterator[subprocess.Popen[bytes]]:
    """A process as a JVM is for some milliseconds at its end: its first thread is a zombie, another one still runs."""
    process = subprocess.Popen([sys.executable, "-c", SECOND_THREAD_ONLY])
    try:
        wait_until(lambda: _status(process.pid)[0] == "Z", "the first thread to end")
        yield process
    finally:
        process.kill()
        process.wait(timeout=60)


def listening_addresses(pid: int) -> set[str]:
    """The local addresses a process listens on, by its own view of the kernel's tables."""
    sockets = {str(handle.readlink()) for handle in Path(f"/proc/{pid}/fd").iterdir() if handle.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(readable_address(fields[1].split(":")[0]))
    return found


def readable_address(kernel_hex: str) -> str:
    words = [bytes.fromhex(kernel_hex[at : at + 8])[::-1] for at in range(0, len(kernel_hex), 8)]
    address = b"".join(words)
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def session_members(leader: int) -> list[int]:
    """The processes that the leader of a session started and that still live."""
    return _processes(lambda pid: os.getsid(pid) == leader and _status(pid)[0] != "Z")


def processes_naming(text: str) -> list[int]:
    """The other processes that have a text in their command line."""
    return _processes(lambda pid: pid != os.getpid() and text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes())


def children_naming(parent: int, text: str) -> list[int]:
    """Those of them that a process has started and that still live."""
    started = _processes(lambda pid: _status(pid)[1] == str(parent))  # one that has ended has no command line
    return [pid for pid in processes_naming(text) if pid in started]


def is_readable_as(uid: int, path: Path) -> bool:
    """Whether an account with this number and no group's rights can open a file or list a folder. For root to ask."""
    program = "import os, sys; os.listdir(sys.argv[1]) if os.path.isdir(sys.argv[1]) else open(sys.argv[1]).close()"
    # Not this Python: its folder may be closed to others, and then every path would seem to be.
    python = ["/usr/bin/env", "-i", "python3", "-c", program, str(path)]
    as_other = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
    assert subprocess.run([*as_other, *python[:-1], "/"], capture_output=True).returncode == 0
    return subprocess.run([*as_other, *python], capture_output=True).returncode == 0


def _processes(wanted: Callable[[int], bool]) -> list[int]:
    """The processes of this machine that are wanted; one that ends meanwhile is not."""
    found = []
    for pid in (int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            if wanted(pid):
                found.append(pid)
    return found


def _status(pid: int) -> list[str]:
    """State, parent and so on: proc(5), /proc/pid/stat from its third field."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class CommandLines:
    """Every command line on this machine while it watches: what anybody sees in `ps`."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> CommandLines:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def holding(self, text: str) -> list[str]:
        return [line for line in self.seen if text in line]

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            for entry in os.scandir("/proc"):
                with contextlib.suppress(OSError):
                    if entry.name.isdigit() and int(entry.name) != os.getpid():
                        self.seen.add(
                            Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        )
