"""Registers the pipeline's pages with Airflow, which loads every file of this folder that .airflowignore does not name.

Where the wheel is installed, its entry point does the same.
"""

from tuning_pipeline.pages.plugin import TuningPlugin

__all__ = ["TuningPlugin"]
