# Databricks notebook source
# MAGIC %md
# MAGIC # A study on the attached cluster
# MAGIC
# MAGIC The same package that Airflow submits, started by hand with each of `joblib`, `rdd` and `dataframe`. Attach a
# MAGIC cluster in dedicated access mode with a machine learning runtime, and put `optuna_spark.zip` on a Volume
# MAGIC (`make databricks-job` writes it to `.state/databricks/<study>/files/`).

# COMMAND ----------

# MAGIC %pip install --quiet optuna==5.0.0 PyMySQL==1.2.4 joblibspark==0.6.0

# COMMAND ----------

import os
import sys
import tempfile
from pathlib import Path

import optuna
from pyspark.sql import SparkSession

PACKAGE = os.environ.get("TUNING_PACKAGE", "/Volumes/main/default/tuning/jobs/wine_quality/optuna_spark.zip")
# The driver alone writes the study, so a file on its disk will do. It goes with the notebook's Python; for one that
# stays, use mysql+pymysql://... with dbutils.secrets.get for the password.
folder = tempfile.TemporaryDirectory(prefix="tuning-")
STORAGE = os.environ.get("TUNING_STORAGE", f"sqlite:///{folder.name}/notebook.db")
TRIALS, TASKS = 8, 2

spark = SparkSession.builder.getOrCreate()  # the notebook's own session
sys.path.insert(0, PACKAGE)

from optuna_spark.driver.run import tune  # noqa: E402
from optuna_spark.entry.databricks import ship  # noqa: E402
from optuna_spark.entry.run_spec import configure_logging  # noqa: E402
from optuna_spark.spec.data import DataSpec  # noqa: E402
from optuna_spark.spec.tuning import TuningSpec  # noqa: E402

configure_logging()
ship(spark, [PACKAGE])

# COMMAND ----------

# MAGIC %md
# MAGIC Any function written for Optuna is an objective; this one is built in. The last cell is for `xgboost` on a GPU
# MAGIC cluster.

# COMMAND ----------

for distribution in ("joblib", "rdd", "dataframe"):
    spec = TuningSpec(
        study_name=f"notebook-{distribution}",
        objective="quadratic",
        trials=TRIALS,
        tasks=TASKS,
        distribution=distribution,
    )
    best = tune(spec, STORAGE, spark).snapshot
    print(f"{distribution}: {best.finished} trials, best {best.best_value:.4f}")  # noqa: T201  # a cell's output

# COMMAND ----------

study = optuna.load_study(study_name="notebook-rdd", storage=STORAGE)
print(study.best_params)  # noqa: T201

# COMMAND ----------

# MAGIC %md
# MAGIC XGBoost on GPUs. The cluster needs `spark.task.resource.gpu.amount` (1, or 0.25 for four trials on a
# MAGIC GPU) and the environment variable `LIBCUDF_CUFILE_POLICY=OFF`. Set TABLE to try it.

# COMMAND ----------

from optuna_spark.objectives.registry import default_search_space  # noqa: E402
from optuna_spark.spec.sections import ResourceSpec  # noqa: E402

TABLE = os.environ.get("TUNING_TABLE", "")  # /Volumes/main/default/tuning/train.parquet
GPUS = float(os.environ.get("TUNING_GPUS_PER_TASK", "0"))
if TABLE and Path(TABLE).exists():
    spec = TuningSpec(
        study_name="notebook-xgboost",
        objective="xgboost",
        data=DataSpec(TABLE),
        objective_section={"num_boost_round": 100},
        search_space=default_search_space("xgboost"),
        trials=TRIALS,
        tasks=TASKS,
        distribution="rdd",
        resources=ResourceSpec(gpus_per_task=GPUS),
    )
    best = tune(spec, STORAGE, spark).snapshot
    print(f"xgboost: {best.finished} trials, best {best.best_value:.4f}")  # noqa: T201
