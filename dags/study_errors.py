"""Shows broken study files among Airflow's import errors.

Airflow keeps one import error for each Python file, and takes every DAG of such a file away. `tuning.py` therefore
leaves broken studies out, and this file, which holds no DAG of its own, reports them.
"""

from pathlib import Path

from tuning_pipeline.dag.studies import read_studies
from tuning_pipeline.study_file.study_file import StudyFileError

errors = read_studies(Path(__file__).parent / "studies").errors
if errors:
    raise StudyFileError("\n".join(errors))
