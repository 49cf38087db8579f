"""The machines of a new Databricks cluster."""

from __future__ import annotations

from tuning_pipeline.study_file.fields.field import CLUSTER, FormField, Reach, int_schema, text_schema

NEW_CLUSTER = (
    FormField(
        "databricks.cluster.node_type",
        "Machine type of the workers, in the cloud's words. Empty: the instance pool's or policy's.",
        text_schema(null=True, pattern="^[A-Za-z0-9_.-]{1,100}$"),
        Reach.MACHINES,
        CLUSTER,
        "node_type",
    ),
    FormField(
        "databricks.cluster.workers",
        "Workers of the new cluster; 0 = a single machine. Not used with autoscale.",
        int_schema(0, 10_000),
        Reach.MACHINES,
        CLUSTER,
        "workers",
    ),
)
