"""Shows broken study files among Airflow's import errors.

Airflow keeps one import error for each Python file, and takes every DAG of such a file away. `tuning.py` therefore
leaves broken studies out, and this file, which holds no DAG of its own, reports them.
"""

from pathlib import Path

from tuning_pipeline.dags import report_broken_studies

report_broken_studies(Path(__file__).parent / "studies")
