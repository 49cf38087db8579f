"""Objectives that look at the GPU they run on."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def fills_the_gpu_once(trial: Any, context: Any) -> float:
    """Trial 1 asks for more memory than any GPU has; the others take a little."""
    from cupy.cuda import Device, memory

    gibibytes = 10_000 if trial.number == 1 else 1
    with Device(context.device.index):
        memory.alloc(gibibytes * 2**30)
    return float(trial.suggest_float("x", 0, 1))


def meets_the_others(trial: Any, context: Any) -> float:
    """Holds memory of the GPU until as many workers as there are tasks hold some."""
    from cupy.cuda import Device, memory

    meeting = Path(trial.suggest_categorical("meeting", context.spec.search_space["meeting"].choices))
    with Device(context.device.index):
        held = memory.alloc(64 * 2**20)
        (meeting / str(os.getpid())).touch()
        for _ in range(1200):
            if len(list(meeting.iterdir())) >= context.spec.tasks:
                trial.set_user_attr("pid", os.getpid())
                trial.set_user_attr("bytes", held.mem.size)
                return 0.0
            time.sleep(0.1)
    raise TimeoutError("the other workers did not come")
