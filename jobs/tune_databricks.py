"""Run an Optuna study as a Databricks job.

    tune_databricks.py <optuna_spark.zip> --spec-file ... --output ...

A spark_python_task runs this one file, wherever it lies; the package comes along as a zip, named first. It is copied
to the local disk, because a zip on a Volume is read in small pieces.
"""

import shutil
import sys
import tempfile


def start(package: str, arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="tuning-") as folder:
        local = shutil.copy(package, folder)
        sys.path.insert(0, local)
        from optuna_spark.entry.databricks import main

        main(local, arguments)


if __name__ == "__main__":
    start(sys.argv[1], sys.argv[2:])
