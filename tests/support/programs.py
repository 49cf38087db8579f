"""Programs that the tests run to their end; the message of one that fails holds what it wrote."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from init.local.layout import REPOSITORY

SHOWN = 4000  # characters of each output in a message: their ends, where a failing program says why


def run_program(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    code: int | None = 0,
    seconds: float = 600,
    stdin: str = "",
    together: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end.

    Args:
        code: The exit code it must end with; None for any.
        together: Whether what it writes to stderr is part of `stdout`, where it was written.
        seconds: A limit for a program that hangs, far from what it takes on a slow machine.

    Raises:
        AssertionError: It ended otherwise, or not at all; holds the ends of its outputs.
    """
    words = [str(part) for part in command]
    stderr = subprocess.STDOUT if together else subprocess.PIPE
    try:
        done = subprocess.run(
            words, env=env, cwd=cwd, input=stdin, stdout=subprocess.PIPE, stderr=stderr, text=True, errors="replace",
            timeout=seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"{words} did not end within {seconds:g} s{outputs(late.stdout, late.stderr)}") from None
    assert code is None or done.returncode == code, (
        f"{words} ended with {done.returncode}, not {code}{outputs(done.stdout, done.stderr)}"
    )
    return done


def outputs(*texts: str | bytes | None) -> str:
    """The end of what a program wrote, for a message."""
    shown = ""
    for name, text in zip(("stdout", "stderr"), texts, strict=False):
        if text:
            whole = text.decode(errors="replace") if isinstance(text, bytes) else text
            shown += f"\n--- {name}:\n{whole[-SHOWN:].rstrip()}"
    return shown


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    """Runs code that may import the job's package, with nothing else of this environment; it must succeed."""
    env = {"PYTHONPATH": str(REPOSITORY / "jobs"), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return run_program([sys.executable, "-c", program], env=env)
