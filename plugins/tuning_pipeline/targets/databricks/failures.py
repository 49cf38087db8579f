"""Failure cards for runs on Databricks: pure functions of what its API returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuning_pipeline.failures import Failure, driver_failure
from tuning_pipeline.targets.failure_rule import FailureRule, failure_by

KEPT = "finished trials are kept: trigger again with mode resume."
# The first rule that fits counts. The codes are status.termination_details.code of
# https://docs.databricks.com/api/workspace/jobs/getrun
RULES = (
    FailureRule(
        what="the cluster's init script failed",
        next="Read its output in the cluster's event log, or below databricks.cluster.log_destination"
        " (<cluster id>/init_scripts); package sources that cannot be reached are the usual cause.",
        words=("init script", "init_script"),
    ),
    FailureRule(
        what="a quota or limit keeps the run from its machines",
        next="Ask for fewer or other machines (databricks.cluster), raise the cloud's quota, or run later.",
        codes=(
            "WORKSPACE_RUN_LIMIT_EXCEEDED", "CLUSTER_REQUEST_LIMIT_EXCEEDED", "MAX_CONCURRENT_RUNS_EXCEEDED",
            "MAX_JOB_QUEUE_SIZE_EXCEEDED", "MAX_SPARK_CONTEXTS_EXCEEDED", "BUDGET_POLICY_LIMIT_EXCEEDED",
        ),
        words=("quota", "limit exceeded", "insufficient capacity", "insufficient_instance_capacity", "out of capacity"),
        retry=True,
    ),
    FailureRule(
        what="Databricks cannot make the cluster or run as asked",
        next="Correct databricks.cluster in the study file: node type, policy and pool must exist in this workspace.",
        codes=("INVALID_CLUSTER_REQUEST", "INVALID_RUN_CONFIGURATION", "RESOURCE_NOT_FOUND", "UNAUTHORIZED_ERROR"),
    ),
    FailureRule(
        what="the cluster was lost while the run was going on",
        next=f"Try again; {KEPT} On-demand machines are lost less often than spot ones.",
        codes=("DRIVER_ERROR", "CLUSTER_TERMINATED_BY_USER"),
        words=("spot", "preempted", "unexpectedly", "unreachable", "lost", "driver is unresponsive"),
        retry=True,
    ),
    FailureRule(
        what="the cluster did not start",
        next="See the cluster's event log; correct databricks.cluster, or try again.",
        codes=("CLUSTER_ERROR", "CLOUD_FAILURE", "STORAGE_ACCESS_ERROR"),
        retry=True,
    ),
)  # fmt: skip


def run_failure(run: Mapping[str, Any], output: Mapping[str, Any] | None, report: Mapping[str, str] | None) -> Failure:
    """The card of a run that ended without success.

    Args:
        run: The answer of jobs/runs/get.
        output: The answer of jobs/runs/get-output for its task; None if there is none.
        report: The content of the job's failure file; None if it left none.
    """
    where = str(run.get("run_page_url", ""))
    state = run.get("state", {})
    result, message = str(state.get("result_state", "")), str(state.get("state_message", ""))
    code = str(run.get("status", {}).get("termination_details", {}).get("code", ""))
    if report:  # the job itself knows best why it failed
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
    return failure_by(RULES, code, message, where) or _job_failure(output or {}, message, where)


def killed(run: Mapping[str, Any]) -> Failure:
    """The card of a run that Airflow cancelled, because the task was ended."""
    return Failure(
        what="Airflow ended this task: it was marked, cleared or stopped from outside; its run is cancelled",
        next=f"To go on: {KEPT}",
        where=str(run.get("run_page_url", "")),
    )


def _job_failure(output: Mapping[str, Any], message: str, where: str) -> Failure:
    error = str(output.get("error") or message)
    return Failure(
        what="the job on Databricks ended with an error" if error else "the run ended without success",
        why=error,
        next="Read the run's output; finished trials are kept.",
        where=where,
        retry=True,
    )
