"""Where a run stands, as Airflow's metrics: gauges for StatsD, Datadog or OpenTelemetry, as Airflow is set up.

For study wine they are tuning.wine.trials_finished, trials_failed, trials_pruned, trials_running, trials_per_second and
best_value. The study is also a tag, for what reads tags.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow.sdk.observability import stats

log = logging.getLogger(__name__)

EVERY_S = 5.0
# The gauge's name, by the name of the value in the file that the driver writes.
GAUGES = {
    "finished": "trials_finished",
    "failed": "trials_failed",
    "pruned": "trials_pruned",
    "running": "trials_running",
    "rate": "trials_per_second",
    "best_value": "best_value",
}


@contextmanager
def trial_metrics(study: str, file: Path) -> Iterator[None]:
    """Send the gauges of a study every few seconds while the block runs, and once more at its end.

    Args:
        study: Name of the study.
        file: The file in which the driver says where the run stands. It need not exist yet.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_send_often, args=(study, file, ended), daemon=True, name="trial-metrics")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _send_often(study: str, file: Path, ended: threading.Event) -> None:
    while True:
        is_end = ended.wait(EVERY_S)
        try:
            send(study, json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            pass  # the driver has not begun
        except Exception as error:  # noqa: BLE001  # a backend that cannot be reached must not end the run
            log.debug("The metrics of study %s could not be sent: %s", study, error)
        if is_end:
            return


def send(study: str, values: Mapping[str, Any]) -> None:
    """Send the gauges of a study."""
    # A dot would be a level of the name's hierarchy. Airflow replaces it likewise in ids of tasks.
    name = study.replace(".", "__")
    for key, gauge in GAUGES.items():
        value = values.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            stats.gauge(f"tuning.{name}.{gauge}", value, tags={"study": study})
