"""What the log says of an Airflow pool whose slots other runs hold."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from optuna_spark.errors import TuningError
from tuning_pipeline.study_file.study_file import read_study
from tuning_pipeline.study_file.study_names import study_paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from tuning_pipeline.study_file.study_file import StudyFile

log = logging.getLogger(__name__)

# Airflow's words for a task that holds a slot.
HOLDING = ["queued", "running"]


def log_holders(study: StudyFile, task_ids: Sequence[str], ti: RuntimeTaskInstanceProtocol) -> None:
    """Say which runs of other studies hold slots of the study's pool: a task that waits for one has no log of its own.

    Args:
        study: The study.
        task_ids: The tasks that use the pool.
        ti: The task that asks. Airflow lets a task ask for the states of others, but not for its pools.
    """
    try:
        holders = [holder for dag_id in _dags_of_pool(study) for holder in _holders(dag_id, task_ids, ti)]
    except Exception as error:  # noqa: BLE001  # whatever Airflow's API answers: the task has done its work
        log.info("[tuning] Who holds pool %s is not known: %s", study.settings.pool, type(error).__name__)
        return
    if holders:
        log.info(
            "[tuning] Slots of pool %s are held by %s. Where none is left, task %s is scheduled, and begins when one"
            " is free.", study.settings.pool, ", ".join(holders), task_ids[0],
        )  # fmt: skip


def _dags_of_pool(study: StudyFile) -> Iterator[str]:
    """The DAGs of the other studies that use the same pool on the same target."""
    for path in study_paths(study.path.parent):
        if path == study.path:
            continue  # one run at a time works on a study
        try:
            other = read_study(path)
        except TuningError:  # it has no DAG
            continue
        if (other.settings.pool, other.settings.target) == (study.settings.pool, study.settings.target):
            yield other.dag_id


def _holders(dag_id: str, task_ids: Sequence[str], ti: RuntimeTaskInstanceProtocol) -> Iterator[str]:
    # Airflow gives a task the number of others in a state, but their runs only for all states, and so of all runs.
    if not ti.get_ti_count(dag_id, task_ids=list(task_ids), states=HOLDING):
        return
    for run_id, states in ti.get_task_states(dag_id, task_ids=list(task_ids)).items():
        if any(state in HOLDING for state in states.values()):
            yield f"run {run_id} of {dag_id}"
