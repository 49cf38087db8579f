"""Python programs that the tests run in a process of their own."""

from __future__ import annotations

import subprocess
import sys

from init.local.layout import REPOSITORY


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    """Runs code that may import the job's package, with nothing else of this environment; it must succeed."""
    env = {"PYTHONPATH": str(REPOSITORY / "jobs"), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
