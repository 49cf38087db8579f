"""Logging: what a person wants to read while trials run, and what is to stay with the trial."""

from __future__ import annotations

import logging
from typing import Any

# Nobody has set up logging in a worker, so that only warnings would show. From here on info lines do, on stderr.
logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
log = logging.getLogger(__name__)
log.setLevel(logging.INFO)


def objective(trial: Any) -> float:
    x = trial.suggest_float("x", -10, 10)
    log.info("trial %s tries x=%.3f", trial.number, x)
    if abs(x) > 9:
        log.warning("trial %s is near the edge of its range", trial.number)
    # A log is on the machine of the worker and goes with it; a user attribute is in the study, its exports and pages.
    trial.set_user_attr("near_the_edge", abs(x) > 9)
    return float((x - 2) ** 2)
