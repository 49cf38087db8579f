"""Whether all tasks of a run find the exports in one place, whichever machine they run on."""

from __future__ import annotations

from airflow.sdk.configuration import conf

from tuning_pipeline.failures import Failure, TaskError

# Executors whose tasks run on the machine of the scheduler.
_ON_ONE_MACHINE = ("LocalExecutor", "SequentialExecutor", "DebugExecutor")


def check_place(base: str) -> None:
    """Refuse exports in a folder of one machine where tasks run on several. A file:// URL says that they share it.

    Args:
        base: The folder of all exports: a path, or a URL.

    Raises:
        TaskError: It is a path, and the executor is not a local one.
    """
    executor = executor_of_tasks(conf.get_mandatory_value("core", "executor"))
    if "://" in base or executor in _ON_ONE_MACHINE:
        return
    raise TaskError(
        Failure(
            what=f"exports would go to the folder {base} of whichever machine runs a task, and {executor} runs tasks on"
            " several",
            next="Name an object store in the study file's exports, or in TUNING_EXPORTS, such as s3://bucket/exports;"
            f" or, if all machines share that folder, write it as file://{base}.",
        )
    )


def executor_of_tasks(configured: str) -> str:
    """The class name of the executor that tasks run with, which name none: the first of those configured.

    Args:
        configured: Airflow's [core] executor, such as `team=a.b.CeleryExecutor:short,LocalExecutor`.
    """
    first = configured.replace(";", ",").split(",")[0].strip()
    return first.rpartition("=")[2].partition(":")[0].rpartition(".")[2]
