"""How many trials, and how their parameters are chosen."""

from __future__ import annotations

from optuna_spark.spec.tuning import DIRECTIONS
from tuning_pipeline.study_file.fields.field import (
    OBJECT,
    SAMPLING,
    VALUE,
    VALUES,
    FormField,
    Reach,
    int_schema,
    number_schema,
    text_schema,
)

# What these keys may name in a run. A study file may name any class of Optuna's; those that take another sampler or
# pruner as an argument are for the file.
SAMPLERS = (
    "TPESampler", "GPSampler", "CmaEsSampler", "NSGAIISampler", "NSGAIIISampler", "RandomSampler", "QMCSampler",
    "GridSampler", "BruteForceSampler",
)  # fmt: skip
PRUNERS = (
    "NopPruner", "ExtrapolationPruner", "MedianPruner", "PercentilePruner", "HyperbandPruner",
    "SuccessiveHalvingPruner", "ThresholdPruner", "WilcoxonPruner",
)  # fmt: skip

SEARCH = (
    FormField(
        "trials",
        "Trials this run adds to the study. A trial is one call of the objective with one set of parameters.",
        int_schema(1, 10_000_000),
        Reach.NOTHING,
    ),
    FormField("tasks", "Trials that run at the same time, one Spark task each.", int_schema(1, 10_000), Reach.NOTHING),
    FormField(
        "timeout_s",
        "Seconds after which no new trial starts; the run then ends well. Empty: no limit.",
        number_schema(null=True, exclusiveMinimum=0, maximum=1e9),
        Reach.NOTHING,
    ),
    FormField(
        "search_space",
        'Parameters by name: {"type": "float" or "int", "low", "high", "step" or "log"}, or'
        ' {"type": "categorical", "choices": [...]}. Empty: what the objective brings.',
        OBJECT,
        Reach.NOTHING,
        SAMPLING,
    ),
    FormField(
        "directions",
        "minimize or maximize, for each value the objective returns; one a line.",
        {"type": "array", "items": {"type": "string", "enum": list(DIRECTIONS)}, "minItems": 1, "maxItems": 100},
        Reach.NOTHING,
        SAMPLING,
    ),
    FormField(
        "sampler.name",
        "How parameters are chosen: a class of optuna.samplers, such as TPESampler, GPSampler or RandomSampler.",
        text_schema(minLength=1, examples=list(SAMPLERS)),
        Reach.NOTHING,
        SAMPLING,
        "sampler",
        SAMPLERS,
    ),
    FormField(
        "sampler.args",
        'Arguments of the sampler by name, such as {"n_startup_trials": 20}.',
        OBJECT,
        Reach.NOTHING,
        SAMPLING,
    ),
    FormField(
        "pruner.name",
        "What ends hopeless trials early: ExtrapolationPruner or a class of optuna.pruners; NopPruner ends none.",
        text_schema(minLength=1, examples=list(PRUNERS)),
        Reach.NOTHING,
        SAMPLING,
        "pruner",
        PRUNERS,
    ),
    FormField(
        "pruner.args",
        'Arguments of the pruner by name, such as {"n_warmup_steps": 50}.',
        OBJECT,
        Reach.NOTHING,
        SAMPLING,
    ),
    FormField(
        "seed",
        "Seed of the sampler and of the train/validation split. Empty: another one each time.",
        int_schema(0, 2**32 - 1, null=True),
        Reach.NOTHING,
        SAMPLING,
    ),
    FormField(
        "enqueue",
        'Sets of parameters to try first, such as [{"x": 1.5}].',
        {
            "type": "array",
            "items": {"type": "object", "additionalProperties": VALUE},
            "maxItems": 10_000,
            "$defs": VALUES["$defs"],
        },
        Reach.NOTHING,
        SAMPLING,
    ),
)
