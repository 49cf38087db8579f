"""Every field a trigger form can have, and what each could reach if anybody may fill it in.

Whoever may only trigger a DAG must not be able to name code, a file, an address, an option of an interpreter or a
secret. So each field says what it could reach, fields that reach something are offered only where the study file lists
them (`form.fields`), and what has no field at all (objective, py_files, archives, connections, exports) is the
author's alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from optuna_spark.errors import SpecError
from optuna_spark.objectives.xgboost.metrics import LARGER_IS_BETTER, SMALLER_IS_BETTER
from optuna_spark.spec.decode import unknown_key
from optuna_spark.spec.tuning import COORDINATIONS, DIRECTIONS

if TYPE_CHECKING:
    from tuning_pipeline.study_file.settings import StudySettings


class Reach(Enum):
    """What a value of a field can name; the text says what listing the field means."""

    NOTHING = "nothing outside the search"
    FILE = "any file or address that the cluster can read"
    OPTION = "any Spark property: code on the cluster and on Airflow's worker"
    SECRET = "whether workers get the database's password"  # noqa: S105  # a sentence
    MACHINES = "which machines are rented, and how many"


@dataclass(frozen=True, eq=False)
class FormField:
    """One field of the form.

    Attributes:
        key: Dotted key of the study file this field replaces.
        help: What a newcomer needs to know, units included.
        schema: JSON schema of the value.
        reach: What a value can name. Only Reach.NOTHING is offered without being listed in the study file.
        section: Heading under which the field is folded away; None keeps it in sight.
        name: Name of the Param; by default the key with underscores.
        closed: The texts a run may give, where the study file may name more; empty where the schema decides.
    """

    key: str
    help: str
    schema: dict[str, Any]
    reach: Reach
    section: str | None = None
    name: str = field(default="")
    closed: tuple[str, ...] = ()

    @property
    def param(self) -> str:
        return self.name or self.key.replace(".", "_")


@dataclass(frozen=True)
class FormSettings:
    """What the trigger form of a study offers.

    Attributes:
        fields: Names of its fields beside `mode`; by default all that reach nothing outside the search.
    """

    fields: tuple[str, ...] | None = None


def _int(minimum: int, maximum: int, *, null: bool = False) -> dict[str, Any]:
    return {"type": ["null", "integer"] if null else "integer", "minimum": minimum, "maximum": maximum}


def _number(*, null: bool = False, **limits: float) -> dict[str, Any]:
    return {"type": ["null", "number"] if null else "number", **limits}


def _text(*, null: bool = False, **rules: Any) -> dict[str, Any]:
    return {"type": ["null", "string"] if null else "string", **rules}


# Of numbers without a limit of their own, and of those in objects and lists: Airflow stores none much longer.
MAX_NUMBER = 10**15
_VALUE = {"$ref": "#/$defs/value"}
_VALUES = {
    "additionalProperties": _VALUE,
    "$defs": {
        "value": {"minimum": -MAX_NUMBER, "maximum": MAX_NUMBER, "items": _VALUE, "additionalProperties": _VALUE}
    },
}
_OBJECT = {"type": "object", **_VALUES}
_BOOLEAN = {"type": "boolean"}
_SIZE = _text(null=True, pattern="^[1-9][0-9]{0,5}[kmgtKMGT]?[bB]?$")

# Closed lists: what these keys may name in a run. A study file may name any class of Optuna's or format of Spark's;
# those that take another sampler or pruner as an argument are for the file.
SAMPLERS = (
    "TPESampler", "GPSampler", "CmaEsSampler", "NSGAIISampler", "NSGAIIISampler", "RandomSampler", "QMCSampler",
    "GridSampler", "BruteForceSampler",
)  # fmt: skip
PRUNERS = (
    "NopPruner", "ExtrapolationPruner", "MedianPruner", "PercentilePruner", "HyperbandPruner",
    "SuccessiveHalvingPruner", "ThresholdPruner", "WilcoxonPruner",
)  # fmt: skip
FORMATS = ("csv", "parquet", "orc", "json")
METRICS = tuple(
    sorted({n for tables in (SMALLER_IS_BETTER, LARGER_IS_BETTER) for names in tables.values() for n in names})
)

SAMPLING, TRAINING, DATA, CLUSTER, STOPPING, EXPORT = (
    "Search",
    "XGBoost training",
    "Data",
    "Cluster",
    "Stopping and failures",
    "Export",
)

COMMON = (
    FormField(
        "trials",
        "Trials this run adds to the study. A trial is one call of the objective with one set of parameters.",
        _int(1, 10_000_000),
        Reach.NOTHING,
    ),
    FormField("tasks", "Trials that run at the same time, one Spark task each.", _int(1, 10_000), Reach.NOTHING),
    FormField(
        "timeout_s",
        "Seconds after which no new trial starts; the run then ends well. Empty: no limit.",
        _number(null=True, exclusiveMinimum=0, maximum=1e9),
        Reach.NOTHING,
    ),
    FormField(
        "search_space",
        'Parameters by name: {"type": "float" or "int", "low", "high", "step" or "log"}, or'
        ' {"type": "categorical", "choices": [...]}. Empty: what the objective brings.',
        _OBJECT,
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
        _text(minLength=1, examples=list(SAMPLERS)),
        Reach.NOTHING,
        SAMPLING,
        "sampler",
        SAMPLERS,
    ),
    FormField(
        "sampler.args",
        'Arguments of the sampler by name, such as {"n_startup_trials": 20}.',
        _OBJECT,
        Reach.NOTHING,
        SAMPLING,
    ),
    FormField(
        "pruner.name",
        "What ends hopeless trials early: ExtrapolationPruner or a class of optuna.pruners; NopPruner ends none.",
        _text(minLength=1, examples=list(PRUNERS)),
        Reach.NOTHING,
        SAMPLING,
        "pruner",
        PRUNERS,
    ),
    FormField(
        "pruner.args",
        'Arguments of the pruner by name, such as {"n_warmup_steps": 50}.',
        _OBJECT,
        Reach.NOTHING,
        SAMPLING,
    ),
    FormField(
        "seed",
        "Seed of the sampler and of the train/validation split. Empty: another one each time.",
        _int(0, 2**32 - 1, null=True),
        Reach.NOTHING,
        SAMPLING,
    ),
    FormField(
        "enqueue",
        'Sets of parameters to try first, such as [{"x": 1.5}].',
        {
            "type": "array",
            "items": {"type": "object", "additionalProperties": _VALUE},
            "maxItems": 10_000,
            "$defs": _VALUES["$defs"],
        },
        Reach.NOTHING,
        SAMPLING,
    ),
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
    FormField("jobs", "Threads that start Spark jobs at once (joblib only).", _int(1, 1_000), Reach.NOTHING, CLUSTER),
    FormField(
        "resources.cpus_per_task", "CPU cores of one trial.", _int(1, 1_024), Reach.NOTHING, CLUSTER, "cpus_per_task"
    ),
    FormField(
        "resources.gpus_per_task",
        "GPUs of one trial: 0 = CPU; 0.25 = four trials share a GPU.",
        _number(minimum=0, maximum=64),
        Reach.NOTHING,
        CLUSTER,
        "gpus_per_task",
    ),
    FormField(
        "stop.target_value",
        "Stop as soon as the best value is this good (one direction only). Empty: never.",
        _number(null=True, minimum=-MAX_NUMBER, maximum=MAX_NUMBER),
        Reach.NOTHING,
        STOPPING,
        "target_value",
    ),
    FormField(
        "stop.terminator",
        "Stop when Optuna expects no further improvement.",
        _BOOLEAN,
        Reach.NOTHING,
        STOPPING,
        "terminator",
    ),
    FormField(
        "stop.max_failures",
        "The run fails when so many trials failed in all. Empty: no limit.",
        _int(1, 10_000_000, null=True),
        Reach.NOTHING,
        STOPPING,
        "max_failures",
    ),
    FormField(
        "stop.max_consecutive_failures",
        "The run fails when so many trials failed in a row.",
        _int(1, 10_000_000),
        Reach.NOTHING,
        STOPPING,
        "max_consecutive_failures",
    ),
    FormField(
        "stop.failures_count",
        "Whether a failed trial uses up one of the run's trials.",
        _BOOLEAN,
        Reach.NOTHING,
        STOPPING,
        "failures_count",
    ),
    FormField(
        "stop.max_retries",
        "How often a trial whose worker died is tried again.",
        _int(0, 1_000),
        Reach.NOTHING,
        STOPPING,
        "max_retries",
    ),
    FormField(
        "top_k",
        "Trials in the exported tables (the Pareto front for several directions).",
        _int(1, 1_000_000),
        Reach.NOTHING,
        EXPORT,
    ),
)

# How the application is submitted; not where Spark runs already.
SPARK = (
    FormField(
        "spark.executor_cores",
        "CPU cores of an executor. Empty: what its trials need.",
        _int(1, 1_024, null=True),
        Reach.NOTHING,
        CLUSTER,
    ),
    FormField(
        "spark.executor_memory",
        "Memory of an executor, e.g. 8g or 512m. Empty: as Spark is set up.",
        _SIZE,
        Reach.NOTHING,
        CLUSTER,
    ),
    FormField(
        "spark.driver_memory",
        "Memory of the driver, e.g. 2g. Empty: as Spark is set up.",
        _SIZE,
        Reach.NOTHING,
        CLUSTER,
    ),
    FormField(
        "spark.conf",
        'Further Spark properties, such as {"spark.network.timeout": "300s"}.',
        _OBJECT,
        Reach.OPTION,
        CLUSTER,
    ),
)

TABLE = (
    FormField("data.path", "File, URL or sklearn:<name>, as the workers see it.", _text(minLength=1), Reach.FILE, DATA),
    FormField(
        "data.format",
        "What the file is: csv or parquet; with distribution dataframe also orc or json. Empty: by the file's ending.",
        _text(null=True, examples=list(FORMATS)),
        Reach.NOTHING,
        DATA,
        closed=FORMATS,
    ),
    FormField("data.separator", "Separator of a CSV file.", _text(minLength=1, maxLength=1), Reach.NOTHING, DATA),
    FormField(
        "data.label", "Column to predict. Empty: the last one.", _text(null=True, maxLength=250), Reach.NOTHING, DATA
    ),
    # With the digest a run decides which content of the author's address counts.
    FormField(
        "data.sha256",
        "SHA-256 of the file, 64 hex digits; required for a URL.",
        _text(null=True, pattern="^[0-9a-f]{64}$"),
        Reach.FILE,
        DATA,
    ),
)

XGBOOST = (
    FormField(
        "xgboost.task",
        "What is predicted.",
        {"type": "string", "enum": ["regression", "binary", "multiclass"]},
        Reach.NOTHING,
        TRAINING,
    ),
    FormField(
        "xgboost.metric",
        "XGBoost's name of the evaluation metric, for each direction one a line. Empty: rmse, logloss or mlogloss.",
        {"type": ["null", "string", "array"], "items": {"type": "string"}, "maxItems": 100},
        Reach.NOTHING,
        TRAINING,
        closed=METRICS,
    ),
    FormField(
        "xgboost.holdout",
        "Share of the rows kept for validation; not used with folds.",
        _number(exclusiveMinimum=0, exclusiveMaximum=1),
        Reach.NOTHING,
        TRAINING,
    ),
    FormField(
        "xgboost.folds",
        "Folds of a cross-validation, each trained once in a trial. Empty: one training with the hold-out.",
        _int(2, 1_000, null=True),
        Reach.NOTHING,
        TRAINING,
    ),
    FormField(
        "xgboost.num_boost_round",
        "Boosting rounds of a training, at most: one tree each, or one a class.",
        _int(1, 1_000_000),
        Reach.NOTHING,
        TRAINING,
    ),
    FormField(
        "xgboost.early_stopping_rounds",
        "End a training when so many rounds brought nothing. Empty: never.",
        _int(1, 1_000_000, null=True),
        Reach.NOTHING,
        TRAINING,
    ),
    FormField(
        "xgboost.report_every",
        "Boosting rounds between two reports to the pruner.",
        _int(1, 1_000_000),
        Reach.NOTHING,
        TRAINING,
    ),
    # Only names that optuna_spark.objectives.xgboost.params knows: none of them names a file, a plugin or a device.
    FormField(
        "xgboost.fixed",
        'XGBoost parameters that are not tuned, such as {"booster": "dart"}.',
        _OBJECT,
        Reach.NOTHING,
        TRAINING,
    ),
)

NEW_CLUSTER = (
    FormField(
        "databricks.cluster.node_type",
        "Machine type of the workers, in the cloud's words. Empty: the instance pool's or policy's.",
        _text(null=True, pattern="^[A-Za-z0-9_.-]{1,100}$"),
        Reach.MACHINES,
        CLUSTER,
        "node_type",
    ),
    FormField(
        "databricks.cluster.workers",
        "Workers of the new cluster; 0 = a single machine. Not used with autoscale.",
        _int(0, 10_000),
        Reach.MACHINES,
        CLUSTER,
        "workers",
    ),
)

ALL_FIELDS = (*COMMON, *SPARK, *TABLE, *XGBOOST, *NEW_CLUSTER)


def possible_fields(settings: StudySettings) -> tuple[FormField, ...]:
    """The fields that mean something for a study."""
    on_databricks = settings.target == "databricks"
    given_cluster = on_databricks and bool(settings.databricks.existing_cluster_id)
    return (
        *COMMON,
        *(() if given_cluster else SPARK),
        *(TABLE if settings.data is not None else ()),
        *(XGBOOST if settings.objective == "xgboost" else ()),
        *(NEW_CLUSTER if on_databricks and not given_cluster else ()),
    )


def offered_fields(settings: StudySettings) -> tuple[FormField, ...]:
    """The fields of a study's form: those it lists, else those that reach nothing."""
    possible, listed = possible_fields(settings), settings.form.fields
    if listed is None:
        return tuple(item for item in possible if item.reach is Reach.NOTHING)
    return tuple(item for item in possible if item.param in listed)


def check_form(settings: StudySettings) -> None:
    """Refuse a list of fields that a form cannot have.

    Raises:
        SpecError: A name nobody knows, one that means nothing for this study, or one given twice.
    """
    listed = settings.form.fields or ()
    possible, known = [f.param for f in possible_fields(settings)], [f.param for f in ALL_FIELDS]
    for name in listed:
        if name not in known:
            raise SpecError(unknown_key(name, possible, "field"), "form.fields")
        if name not in possible:
            raise SpecError(f"{name} means nothing for this study; remove it", "form.fields")
    if len(set(listed)) < len(listed):
        twice = next(name for name in listed if listed.count(name) > 1)
        raise SpecError(f"{twice} is listed twice; remove one", "form.fields")
