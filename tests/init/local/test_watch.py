"""What a person sees of an Airflow run."""

from __future__ import annotations

from init.local.watch import RunWatcher

INFO = "2026-11-22T09:31:18.641929Z [info     ] "


def shown(*lines: str) -> list[str]:
    seen: list[str] = []
    watcher = RunWatcher(seen.append, clock=lambda: 0.0)
    for line in lines:
        watcher.feed(line + "\n")
    return seen


def test_a_stage_is_named_and_timed() -> None:
    assert shown(
        INFO + "[DAG TEST] starting task_id=provision_database map_index=-1 [airflow.sdk] loc=dag.py:1501",
        INFO + "[DAG TEST] end task task_id=provision_database map_index=-1 [airflow.sdk] loc=dag.py:1563",
    ) == ["== provision database", "   done in 0.0 s"]


def test_a_stage_that_will_be_tried_again_says_so() -> None:
    assert (
        shown(
            INFO + "[DAG TEST] starting task_id=tune map_index=-1 [airflow.sdk] loc=dag.py:1501",
            INFO + "Task instance state updated    [a.b] loc=x.py:485 new_state=up_for_retry rows_affected=1",
            INFO + "[DAG TEST] end task task_id=tune map_index=-1 [airflow.sdk] loc=dag.py:1563",
        )[-1]
        == "   failed after 0.0 s, will be tried again"
    )


def test_progress_is_shown_without_the_log_around_it() -> None:
    line = INFO + "26/11/22 09:00:00 INFO [tuning] 10/100 trials, best 0.1 [airflow.task] loc=t.py:15"
    assert shown(line, "[tuning] 11/100 trials") == ["   10/100 trials, best 0.1", "   11/100 trials"]


def test_a_failure_card_is_shown_as_it_is() -> None:
    card = ["┌ The Spark job failed", "│ what: x", "└ see the log"]
    assert shown("[error    ] ", *card[:2], card[2] + " [airflow.task] loc=t.py:18") == card


def test_the_rest_of_the_log_is_not_shown() -> None:
    assert shown(INFO + "Filling up the DagBag [airflow] loc=dagbag.py:460", "Traceback (most recent call last):") == []


def test_the_last_exception_is_remembered_for_failures_without_a_card() -> None:
    watcher = RunWatcher(lambda _: None)
    for line in (
        "ValueError: first",
        "  raise RuntimeError",
        "airflow.exceptions.AirflowException: trials must be at least 1",
    ):
        watcher.feed(line)
    assert watcher.last_exception == "airflow.exceptions.AirflowException: trials must be at least 1"


def test_a_dag_file_that_cannot_be_loaded_is_remembered() -> None:
    watcher = RunWatcher(lambda _: None)
    watcher.feed(
        "2026 [error    ] Error loading DAG from errors.py: bad.yaml: trials: must be 1 [a.b] loc=dagbag.py:319\n"
    )
    assert watcher.broken_dags == {"errors.py": "bad.yaml: trials: must be 1"}
