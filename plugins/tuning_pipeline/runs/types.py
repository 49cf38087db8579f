"""What follows from how a run was started. It has an answer for each of Airflow's run types."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Whether somebody asked for this very run. That is reason enough to tune, whatever the study's retune rule says.
ASKED_FOR = {
    "manual": True,  # a person, a script, `airflow dags test`
    "operator_triggered": True,  # another DAG's TriggerDagRunOperator
    "asset_materialization": True,  # the asset's page or its REST call
    "scheduled": False,
    "backfill": False,  # the schedule's past dates
    "asset_triggered": False,
}


def asked_for(run_type: str | Enum) -> bool:
    """Whether somebody asked for this very run. For a run type that ASKED_FOR does not hold, the answer is no."""
    # In a task the type is an enum whose members are strings, but have another hash than these strings.
    return ASKED_FOR.get(str(getattr(run_type, "value", run_type)), False)


def mode_of_run(conf: Mapping[str, Any] | None, otherwise: str) -> Any:
    """The mode of a run.

    Args:
        conf: The conf that the run was triggered with.
        otherwise: The mode if the conf has none: the study file's `retune.mode`.
    """
    return (conf or {}).get("mode", otherwise)
