"""How a contender reports its measurements, and what contenders read from their environment."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

URL_VARIABLE = "BENCH_STORAGE_URL"
RESULT_VARIABLE = "BENCH_RESULT"


def storage_url() -> str:
    """The database of this run. From the environment, because every user of the machine can read arguments."""
    return os.environ[URL_VARIABLE]


def report(**measured: Any) -> None:
    """Write the measurements to the file that the benchmark reads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result = {"process_cpu_s": usage.ru_utime + usage.ru_stime, **measured}
    Path(os.environ[RESULT_VARIABLE]).write_text(json.dumps(result))
