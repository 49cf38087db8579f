"""### Use the best parameters.

Runs whenever the study `diabetes` was exported: `tune_diabetes` publishes the asset `best_params_diabetes`, and its
event carries what was found. Copy this file to act on it: train the final model, open a pull request, send a message.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.sdk import DAG, Asset, get_current_context, task

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

log = logging.getLogger(__name__)

best_params = Asset("best_params_diabetes")

with DAG("use_best_params", doc_md=__doc__, schedule=best_params, catchup=False, max_active_runs=1, tags={"tuning"}):

    @task
    def use_best_params() -> dict[str, Any]:
        """The newest event's value and parameters."""
        events = get_current_context()["triggering_asset_events"][best_params]
        if not events:
            raise ValueError("started by hand: nothing was published; trigger tune_diabetes instead")
        found: Mapping[str, Any] = events[-1].extra
        log.info("Study %s: value %s in trial %s", found["study"], found["value"], found["trial"])
        for name, value in found["params"].items():
            log.info("%s = %s", name, value)
        return dict(found["params"])

    use_best_params()
