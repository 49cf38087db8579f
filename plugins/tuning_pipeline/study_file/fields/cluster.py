"""How the trials are spread over a cluster, and how the application is submitted to it."""

from __future__ import annotations

from optuna_spark.spec.tuning import COORDINATIONS
from tuning_pipeline.study_file.fields.field import CLUSTER, OBJECT, SIZE, FormField, Reach, int_schema, number_schema

WORKERS = (
    FormField(
        "distribution",
        "How Spark starts the workers: joblib or rdd (each reads the data itself), dataframe (Spark reads it).",
        {"type": "string", "enum": ["joblib", "rdd", "dataframe"]},
        Reach.NOTHING,
        CLUSTER,
    ),
    FormField(
        "coordination",
        "Who hands out trials: the driver (workers need no database), or the database (every worker opens it, with"
        " its password).",
        {"type": "string", "enum": list(COORDINATIONS)},
        Reach.SECRET,
        CLUSTER,
    ),
    FormField(
        "jobs", "Threads that start Spark jobs at once (joblib only).", int_schema(1, 1_000), Reach.NOTHING, CLUSTER
    ),
    FormField(
        "resources.cpus_per_task",
        "CPU cores of one trial.",
        int_schema(1, 1_024),
        Reach.NOTHING,
        CLUSTER,
        "cpus_per_task",
    ),
    FormField(
        "resources.gpus_per_task",
        "GPUs of one trial: 0 = CPU; 0.25 = four trials share a GPU.",
        number_schema(minimum=0, maximum=64),
        Reach.NOTHING,
        CLUSTER,
        "gpus_per_task",
    ),
)

# How the application is submitted; not where Spark runs already.
SPARK = (
    FormField(
        "spark.executor_cores",
        "CPU cores of an executor. Empty: what its trials need.",
        int_schema(1, 1_024, null=True),
        Reach.NOTHING,
        CLUSTER,
    ),
    FormField(
        "spark.executor_memory",
        "Memory of an executor, e.g. 8g or 512m. Empty: as Spark is set up.",
        SIZE,
        Reach.NOTHING,
        CLUSTER,
    ),
    FormField(
        "spark.driver_memory",
        "Memory of the driver, e.g. 2g. Empty: as Spark is set up.",
        SIZE,
        Reach.NOTHING,
        CLUSTER,
    ),
    FormField(
        "spark.conf",
        'Further Spark properties, such as {"spark.network.timeout": "300s"}.',
        OBJECT,
        Reach.OPTION,
        CLUSTER,
    ),
)
