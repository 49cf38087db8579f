"""Output for the person at the terminal: short lines, and a sign of life during every long step."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from init.local.errors import SetupError

TICK_S = 5.0
STEP_S = 3600.0  # the longest download over a slow network, several times over


def show(line: str) -> None:
    print(line, flush=True)


def say(text: str) -> None:
    show(f"== {text}")


def detail(text: str) -> None:
    show(f"   {text}")


def complain(text: str) -> None:
    print(f"error: {text}", file=sys.stderr, flush=True)


def tail(log: Path, lines: int = 12) -> str:
    """The end of a log, indented, for an error message."""
    if not log.exists():
        return ""
    last = log.read_text(errors="replace").rstrip().splitlines()[-lines:]
    return "\n".join(f"   | {line}" for line in last)


def run_step(what: str, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None) -> None:
    """Runs a command with its output in a log, and prints every few seconds that it is still at work.

    Args:
        what: The step, as in "installing X". Used in the progress lines and in the error.
        command: Program and arguments.
        log: The file that takes the output.
        env: Environment of the command; by default the present one.

    Raises:
        SetupError: The command failed, or did not end within STEP_S seconds. Holds the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env
        )
        try:
            ended = wait_aloud(process, what)
        except BaseException:
            end(process)
            raise
        if not ended:
            end(process)
            raise SetupError(f"{what} did not end within {STEP_S:.0f} s. The end of {log}:\n{tail(log)}")
    if process.returncode != 0:
        raise SetupError(f"{what} failed with exit code {process.returncode}. The end of {log}:\n{tail(log)}")


def wait_aloud(process: subprocess.Popen[bytes], what: str) -> bool:
    """Waits for the process, and prints a line now and then. Returns whether it ended within STEP_S seconds."""
    started = time.monotonic()
    while (waited := time.monotonic() - started) < STEP_S:
        try:
            process.wait(timeout=min(TICK_S, STEP_S - waited))
            return True
        except subprocess.TimeoutExpired:
            detail(f"still {what} ({time.monotonic() - started:.0f} s)")
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    """Asks a process to end, and kills it if it does not."""
    process.terminate()
    try:
        process.wait(timeout=TICK_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=TICK_S)
