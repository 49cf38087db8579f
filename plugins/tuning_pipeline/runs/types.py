"""What the way a run was started says about it: one answer for each run type that Airflow knows."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Whether somebody asked for this very run, which is reason enough to tune: the study's rule is not asked then.
ASKED_FOR = {
    "manual": True,  # a person, a script, `airflow dags test`
    "operator_triggered": True,  # another DAG's TriggerDagRunOperator
    "asset_materialization": True,  # the asset's page or its REST call
    "scheduled": False,
    "backfill": False,  # the schedule's past dates
    "asset_triggered": False,
}


def asked_for(run_type: str | Enum) -> bool:
    """Whether somebody asked for this very run. A run type that nobody has answered for here is one they did not."""
    # Tasks get another enumeration than the scheduler's: its members are texts, but neither print nor hash as these.
    return ASKED_FOR.get(str(getattr(run_type, "value", run_type)), False)


def mode_of_run(conf: Mapping[str, Any] | None, otherwise: str) -> Any:
    """The mode that the run was started with, whatever started it.

    Args:
        conf: What the run was triggered with.
        otherwise: `retune.mode`, for a run whose conf says none.
    """
    return (conf or {}).get("mode", otherwise)
