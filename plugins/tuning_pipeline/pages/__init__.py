"""Pages inside Airflow: Optuna's dashboard, and a report on each run."""
