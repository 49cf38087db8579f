"""Background processes of this checkout. It makes sure that a process is its own before it sends a signal."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from init.local.console import say
from init.local.errors import SetupError

STOP_GRACE_S = 30.0
# Another `make` in this checkout may be downloading both environments over a slow network.
LOCK_S = 3600.0


@cache
def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def birth(pid: int) -> str | None:
    """An id of the process that is never used again, unlike its pid: the boot, and the clock tick of its start.

    Returns:
        The id; None if there is no such process, or only a zombie is left. A process whose first thread has ended also
        looks like a zombie, but it holds its ports and locks until its other threads have ended. It counts as alive.
    """
    with suppress(ChildProcessError):  # if it is a child that has ended, this removes the zombie
        os.waitpid(pid, os.WNOHANG)
    try:
        # proc_pid_stat(5): field 2, the name, may hold spaces and brackets, so the fields are counted from its end.
        # Field 3 is the state, 20 the number of threads (1 for a zombie), 22 the start time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in "ZX" and int(fields[17]) <= 1:
        return None
    return f"{boot_id()}:{fields[19]}"


def tied_to_parent(command: Sequence[str | Path], *, tied: bool = True, signal_name: str = "TERM") -> list[str]:
    """The command, which then gets a signal from the kernel when the process that started it ends, however it ends."""
    parts = [str(part) for part in command]
    return ["setpriv", "--pdeathsig", signal_name, *parts] if tied else parts


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Delays signals until the end of the block: a process that was started must also be written down."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True)
class Service:
    """A named background process of a state folder, with its pid file and its log."""

    name: str
    state: Path

    @property
    def pid_file(self) -> Path:
        return self.state / "run" / f"{self.name}.pid"

    @property
    def log(self) -> Path:
        return self.state / "logs" / f"{self.name}.log"

    def start(self, command: Sequence[str], env: Mapping[str, str], facts: Mapping[str, Any]) -> None:
        """Starts the process in a session of its own. `facts`, such as its ports, are stored with its pid."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with _undisturbed():
                pid = os.posix_spawn(
                    shutil.which(command[0], path=env.get("PATH")) or command[0],
                    list(command),
                    dict(env),
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_DUP2, log, 1),
                        (os.POSIX_SPAWN_DUP2, log, 2),
                    ],
                    setsid=True,
                    setsigmask=(),
                )
                self.adopt(pid, facts)
        finally:
            os.close(log)

    def adopt(self, pid: int, facts: Mapping[str, Any]) -> None:
        """Writes the pid file of a process that the caller started."""
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        record = {"pid": pid, "birth": birth(pid), "facts": dict(facts)}
        for file, content in ((self._last_file, record["facts"]), (self.pid_file, record)):
            new = file.with_suffix(".new")
            new.write_text(json.dumps(content))
            new.replace(file)

    def forget(self) -> None:
        self.pid_file.unlink(missing_ok=True)

    def facts(self) -> dict[str, Any]:
        """The facts of the last start, even if the process has ended."""
        return dict(self._record().get("facts", {}))

    def last_facts(self) -> dict[str, Any]:
        """The facts of the last start, even if the process was stopped since, or its start failed."""
        try:
            found = json.loads(self._last_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def _last_file(self) -> Path:
        return self.pid_file.with_suffix(".facts")

    @property
    def pid(self) -> int:
        """The recorded process.

        Raises:
            KeyError: None is recorded.
        """
        return int(self._record()["pid"])

    def running(self) -> bool:
        record = self._record()
        return bool(record.get("birth")) and birth(record["pid"]) == record["birth"]

    def stop(self, grace_s: float = STOP_GRACE_S, first: signal.Signals = signal.SIGTERM) -> bool:
        """Ends the process if it runs and is ours. Returns whether it did.

        Raises:
            SetupError: The process does not end even when it is killed.
        """
        was_running = self.running()
        if was_running:
            self._signal(first)
            if not self._gone_within(grace_s):
                self._signal(signal.SIGKILL)
                if not self._gone_within(STOP_GRACE_S):
                    raise SetupError(
                        f"{self.name}, process {self.pid}, does not end even when it is killed: its disk may hang"
                    )
        self.forget()
        return was_running

    def _record(self) -> dict[str, Any]:
        try:
            record = json.loads(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _signal(self, number: signal.Signals) -> None:
        # A pidfd stays with its process. With the pid alone, another process could get it between check and signal.
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.running():
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


@contextmanager
def one_at_a_time(lock: Path, seconds: float = LOCK_S) -> Iterator[None]:
    """Holds a file lock, so that two `make` in one checkout do not install or start things at the same time.

    Raises:
        SetupError: Another process still holds the lock after `seconds` seconds.
    """
    import fcntl

    lock.parent.mkdir(parents=True, exist_ok=True)
    deadline, told = time.monotonic() + seconds, False
    with lock.open("w") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise SetupError(
                        f"another make in this checkout still holds {lock} after {seconds:g} s: end that one first"
                    ) from None
            if not told:
                say("waiting for another make in this checkout to have set things up")
                told = True
            time.sleep(0.1)
        yield
