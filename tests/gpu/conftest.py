"""Everything here needs an NVIDIA GPU, and is skipped where none answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def gpu_answers() -> bool:
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="session", autouse=True)
def needs_a_gpu() -> None:
    if not gpu_answers():
        pytest.skip("no NVIDIA GPU answers here (nvidia-smi)")
