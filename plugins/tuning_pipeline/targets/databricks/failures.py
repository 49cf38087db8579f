"""How a run on Databricks ended badly, as a card: pure functions over what its API says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuning_pipeline.failures import Failure, driver_failure

KEPT = "finished trials are kept: trigger again with mode resume."
# Termination codes: https://docs.databricks.com/api/workspace/jobs/getrun (status.termination_details.code)
_LIMITS = {
    "WORKSPACE_RUN_LIMIT_EXCEEDED", "CLUSTER_REQUEST_LIMIT_EXCEEDED", "MAX_CONCURRENT_RUNS_EXCEEDED",
    "MAX_JOB_QUEUE_SIZE_EXCEEDED", "MAX_SPARK_CONTEXTS_EXCEEDED", "BUDGET_POLICY_LIMIT_EXCEEDED",
}  # fmt: skip
_QUOTA_WORDS = ("quota", "limit exceeded", "insufficient capacity", "insufficient_instance_capacity", "out of capacity")
_LOST_WORDS = ("spot", "preempted", "unexpectedly", "unreachable", "lost", "driver is unresponsive")


def run_failure(run: Mapping[str, Any], output: Mapping[str, Any] | None, report: Mapping[str, str] | None) -> Failure:
    """The card of a run that ended without success.

    Args:
        run: What jobs/runs/get says.
        output: What jobs/runs/get-output says of its task, if that can be asked.
        report: What the job left in its failure file, or None.
    """
    where = str(run.get("run_page_url", ""))
    state = run.get("state", {})
    result, message = str(state.get("result_state", "")), str(state.get("state_message", ""))
    code = str(run.get("status", {}).get("termination_details", {}).get("code", ""))
    if report:
        return driver_failure(report, where)
    if result == "CANCELED" or code == "USER_CANCELED":
        return Failure(
            "the run was cancelled in the Databricks workspace", message, f"If that was not meant: {KEPT}", where
        )
    if result == "TIMEDOUT":
        return Failure(
            "the run took longer than execution_timeout_s and Databricks ended it",
            message,
            f"Raise execution_timeout_s, or set timeout_s below it, which ends a run in good order; {KEPT}",
            where,
            retry=True,
        )
    return _cluster_failure(code, message, where) or _job_failure(output or {}, message, where)


def killed(run: Mapping[str, Any]) -> Failure:
    """The card of a run that Airflow cancelled because its task was to end."""
    return Failure(
        what="Airflow ended this task: it was marked, cleared or stopped from outside; its run is cancelled",
        next=f"To go on: {KEPT}",
        where=str(run.get("run_page_url", "")),
    )


def _cluster_failure(code: str, message: str, where: str) -> Failure | None:
    low = message.lower()
    if "init script" in low or "init_script" in low:
        return Failure(
            "the cluster's init script failed",
            message,
            "Read its output in the cluster's event log, or below databricks.cluster.log_destination"
            " (<cluster id>/init_scripts); package sources that cannot be reached are the usual cause.",
            where,
        )
    if code in _LIMITS or any(word in low for word in _QUOTA_WORDS):
        return Failure(
            "a quota or limit keeps the run from its machines",
            message or code,
            "Ask for fewer or other machines (databricks.cluster), raise the cloud's quota, or run later.",
            where,
            retry=True,
        )
    if code in ("INVALID_CLUSTER_REQUEST", "INVALID_RUN_CONFIGURATION", "RESOURCE_NOT_FOUND", "UNAUTHORIZED_ERROR"):
        return Failure(
            "Databricks cannot make the cluster or run as asked",
            message or code,
            "Correct databricks.cluster in the study file: node type, policy and pool must exist in this workspace.",
            where,
        )
    if code in ("DRIVER_ERROR", "CLUSTER_TERMINATED_BY_USER") or any(word in low for word in _LOST_WORDS):
        return Failure(
            "the cluster was lost while the run was going on",
            message or code,
            f"Try again; {KEPT} On-demand machines are lost less often than spot ones.",
            where,
            retry=True,
        )
    if code in ("CLUSTER_ERROR", "CLOUD_FAILURE", "STORAGE_ACCESS_ERROR"):
        return Failure(
            "the cluster did not start",
            message or code,
            "See the cluster's event log; correct databricks.cluster, or try again.",
            where,
            retry=True,
        )
    return None


def _job_failure(output: Mapping[str, Any], message: str, where: str) -> Failure:
    error = str(output.get("error") or message)
    return Failure(
        what="the job on Databricks ended with an error" if error else "the run ended without success",
        why=error,
        next="Read the run's output; finished trials are kept.",
        where=where,
        retry=True,
    )
