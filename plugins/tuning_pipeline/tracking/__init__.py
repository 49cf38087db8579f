"""The mirror of studies in MLflow, as Airflow's tasks and the command line see it."""
