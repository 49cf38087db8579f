"""One DAG for each study file in `studies`: Airflow finds them here."""

from pathlib import Path

from tuning_pipeline.dags import tuning_dags

tuning_dags(Path(__file__).parent / "studies")
