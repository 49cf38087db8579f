"""When a run stops, and what it leaves."""

from __future__ import annotations

from tuning_pipeline.study_file.fields.field import (
    BOOLEAN,
    EXPORT,
    MAX_NUMBER,
    STOPPING,
    FormField,
    Reach,
    int_schema,
    number_schema,
)

ENDING = (
    FormField(
        "stop.target_value",
        "Stop as soon as the best value is this good (one direction only). Empty: never.",
        number_schema(null=True, minimum=-MAX_NUMBER, maximum=MAX_NUMBER),
        Reach.NOTHING,
        STOPPING,
        "target_value",
    ),
    FormField(
        "stop.terminator",
        "Stop when Optuna expects no further improvement.",
        BOOLEAN,
        Reach.NOTHING,
        STOPPING,
        "terminator",
    ),
    FormField(
        "stop.max_failures",
        "The run fails when so many trials failed in all. Empty: no limit.",
        int_schema(1, 10_000_000, null=True),
        Reach.NOTHING,
        STOPPING,
        "max_failures",
    ),
    FormField(
        "stop.max_consecutive_failures",
        "The run fails when so many trials failed in a row.",
        int_schema(1, 10_000_000),
        Reach.NOTHING,
        STOPPING,
        "max_consecutive_failures",
    ),
    FormField(
        "stop.failures_count",
        "Whether a failed trial uses up one of the run's trials.",
        BOOLEAN,
        Reach.NOTHING,
        STOPPING,
        "failures_count",
    ),
    FormField(
        "stop.max_retries",
        "How often a trial whose worker died is tried again.",
        int_schema(0, 1_000),
        Reach.NOTHING,
        STOPPING,
        "max_retries",
    ),
    FormField(
        "top_k",
        "Trials in the exported tables (the Pareto front for several directions).",
        int_schema(1, 1_000_000),
        Reach.NOTHING,
        EXPORT,
    ),
)
