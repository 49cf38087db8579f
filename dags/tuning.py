"""### Tune a model.

Airflow decides when and with what, Spark runs the trials, MySQL remembers the study.

| Task | What it does |
| --- | --- |
| `provision_database` | waits for MySQL, makes database, account and tables; waits while another run has the study |
| `prepare_study` | creates, resumes or resets the study |
| `tune` | runs the trials on the Spark cluster; its log shows progress every few seconds |
| `export_best_trials` | writes the best trials and a report, and publishes the best parameters as an asset |

**Trigger** opens a form with the defaults of the study file (`dags/studies/<name>.yaml`). *Mode* says what happens
to a study that exists: `resume` goes on with it, `reset` starts again and keeps it under another name, `create` refuses
to touch it.

A study with a `retune.rule` asks `decide_retune` first: a run that nobody asked for is skipped when there is
nothing new, and the task's log and the run's tab *Best trials* say why.

A failed task ends with a card: what happened, why, what to do. Trials that finished are kept: run again with
`resume`. Broken study files are listed among Airflow's import errors (see `study_errors.py`).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, chain

from tuning_pipeline.dag.form import form_params
from tuning_pipeline.dag.notify import load_notifier
from tuning_pipeline.dag.schedule import dag_schedule, first_moment
from tuning_pipeline.dag.studies import read_studies
from tuning_pipeline.study_file.study_file import StudyFile
from tuning_pipeline.targets.registry import target_of

HOUR_S = 3600


def tuning_dag(study: StudyFile) -> DAG:
    """The DAG of one study file."""
    settings = study.settings
    with DAG(
        study.dag_id,
        description=settings.description or f"Tune study {settings.study}",
        doc_md=__doc__,
        schedule=dag_schedule(settings),
        start_date=first_moment(settings),
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=timedelta(seconds=(settings.retries + 1) * settings.execution_timeout_s + HOUR_S),
        tags={"tuning", settings.objective, *settings.tags},
        params=form_params(study),
        default_args={
            "owner": settings.owner,
            "on_failure_callback": load_notifier(settings.on_failure),
            "retries": settings.retries,
            "retry_delay": timedelta(seconds=settings.retry_delay_s),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(minutes=10),
        },
    ) as dag:
        chain(*target_of(study).steps(study))
    return dag


for study in read_studies(Path(__file__).parent / "studies").studies:
    tuning_dag(study)
