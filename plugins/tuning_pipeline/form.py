"""The trigger form: every tunable default of a study as a typed Param, and what a run makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow.sdk import Param

from optuna_spark.decode import describe, to_dict, unknown_key
from optuna_spark.spec import COORDINATIONS, DIRECTIONS
from tuning_pipeline.study_file import StudyFile, StudyFileError

MODES = ("resume", "reset", "create")
MODE_HELP = (
    "resume: go on with the study, or start it. reset: delete this study and all its trials, then start again."
    " create: start it, and fail if it exists."
)


@dataclass(frozen=True)
class FormField:
    """One field of the form.

    Attributes:
        key: Dotted key of the study file this field replaces.
        help: What a newcomer needs to know, units included.
        schema: JSON schema of the value.
        section: Heading under which the field is folded away; None keeps it in sight.
        name: Name of the Param; by default the key with underscores.
    """

    key: str
    help: str
    schema: dict[str, Any]
    section: str | None = None
    name: str = field(default="")

    @property
    def param(self) -> str:
        return self.name or self.key.replace(".", "_")


def _int(minimum: int, *, null: bool = False, maximum: int | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": ["null", "integer"] if null else "integer", "minimum": minimum}
    return schema if maximum is None else {**schema, "maximum": maximum}


def _number(*, null: bool = False, **limits: float) -> dict[str, Any]:
    return {"type": ["null", "number"] if null else "number", **limits}


def _text(*, null: bool = False, **rules: Any) -> dict[str, Any]:
    return {"type": ["null", "string"] if null else "string", **rules}


_OBJECT = {"type": "object"}
_NULL_OBJECT = {"type": ["null", "object"]}
_BOOLEAN = {"type": "boolean"}

# Suggestions: the form takes any other class as well, and the first task refuses what Optuna does not have.
SAMPLERS = ("TPESampler", "GPSampler", "CmaEsSampler", "NSGAIISampler", "RandomSampler", "QMCSampler", "GridSampler")
PRUNERS = (
    "NopPruner",
    "ExtrapolationPruner",
    "MedianPruner",
    "PercentilePruner",
    "HyperbandPruner",
    "SuccessiveHalvingPruner",
)

SAMPLING, TRAINING, DATA, CLUSTER, STOPPING, EXPORT = (
    "Search",
    "XGBoost training",
    "Data",
    "Cluster",
    "Stopping and failures",
    "Export",
)

_COMMON = (
    FormField(
        "trials",
        "Trials this run adds to the study. A trial is one call of the objective with one set of parameters.",
        _int(1),
    ),
    FormField("tasks", "Trials that run at the same time, one Spark task each.", _int(1)),
    FormField(
        "timeout_s",
        "Seconds after which no new trial starts; the run then ends well. Empty: no limit.",
        _number(null=True, exclusiveMinimum=0),
    ),
    FormField(
        "search_space",
        'Parameters by name: {"type": "float" or "int", "low", "high", "step" or "log"}, or'
        ' {"type": "categorical", "choices": [...]}. Empty: what the objective brings.',
        _OBJECT,
        SAMPLING,
    ),
    FormField(
        "directions",
        "minimize or maximize, for each value the objective returns; one a line.",
        {"type": "array", "items": {"type": "string", "enum": list(DIRECTIONS)}, "minItems": 1},
        SAMPLING,
    ),
    FormField(
        "sampler.name",
        "How parameters are chosen: a class of optuna.samplers, such as TPESampler, GPSampler or RandomSampler.",
        _text(minLength=1, examples=list(SAMPLERS)),
        SAMPLING,
        "sampler",
    ),
    FormField("sampler.args", 'Arguments of the sampler by name, such as {"n_startup_trials": 20}.', _OBJECT, SAMPLING),
    FormField(
        "pruner.name",
        "What ends hopeless trials early: ExtrapolationPruner or a class of optuna.pruners; NopPruner ends none.",
        _text(minLength=1, examples=list(PRUNERS)),
        SAMPLING,
        "pruner",
    ),
    FormField("pruner.args", 'Arguments of the pruner by name, such as {"n_warmup_steps": 50}.', _OBJECT, SAMPLING),
    FormField(
        "seed",
        "Seed of the sampler and of the train/validation split. Empty: another one each time.",
        _int(0, null=True, maximum=2**32 - 1),
        SAMPLING,
    ),
    FormField(
        "enqueue",
        'Sets of parameters to try first, such as [{"x": 1.5}].',
        {"type": "array", "items": {"type": "object"}},
        SAMPLING,
    ),
    FormField(
        "distribution",
        "How Spark starts the workers: joblib or rdd (each reads the data itself), dataframe (Spark reads it).",
        {"type": "string", "enum": ["joblib", "rdd", "dataframe"]},
        CLUSTER,
    ),
    FormField(
        "coordination",
        "Who hands out trials: the driver (workers need no database), or the database (every worker opens it).",
        {"type": "string", "enum": list(COORDINATIONS)},
        CLUSTER,
    ),
    FormField("jobs", "Threads that start Spark jobs at once (joblib only).", _int(1), CLUSTER),
    FormField("resources.cpus_per_task", "CPU cores of one trial.", _int(1), CLUSTER, "cpus_per_task"),
    FormField(
        "resources.gpus_per_task",
        "GPUs of one trial: 0 = CPU; 0.25 = four trials share a GPU.",
        _number(minimum=0),
        CLUSTER,
        "gpus_per_task",
    ),
    FormField(
        "spark.executor_cores", "CPU cores of an executor. Empty: what its trials need.", _int(1, null=True), CLUSTER
    ),
    FormField(
        "spark.executor_memory",
        "Memory of an executor, e.g. 8g or 512m. Empty: as Spark is set up.",
        _text(null=True),
        CLUSTER,
    ),
    FormField(
        "spark.driver_memory", "Memory of the driver, e.g. 2g. Empty: as Spark is set up.", _text(null=True), CLUSTER
    ),
    FormField("spark.conf", 'Further Spark properties, such as {"spark.network.timeout": "300s"}.', _OBJECT, CLUSTER),
    FormField(
        "stop.target_value",
        "Stop as soon as the best value is this good (one direction only). Empty: never.",
        _number(null=True),
        STOPPING,
        "target_value",
    ),
    FormField("stop.terminator", "Stop when Optuna expects no further improvement.", _BOOLEAN, STOPPING, "terminator"),
    FormField(
        "stop.max_failures",
        "The run fails when so many trials failed in all. Empty: no limit.",
        _int(1, null=True),
        STOPPING,
        "max_failures",
    ),
    FormField(
        "stop.max_consecutive_failures",
        "The run fails when so many trials failed in a row.",
        _int(1),
        STOPPING,
        "max_consecutive_failures",
    ),
    FormField(
        "stop.failures_count",
        "Whether a failed trial uses up one of the run's trials.",
        _BOOLEAN,
        STOPPING,
        "failures_count",
    ),
    FormField(
        "stop.max_retries",
        "How often a trial whose worker died is tried again.",
        _int(0),
        STOPPING,
        "max_retries",
    ),
    FormField("top_k", "Trials in the exported tables (the Pareto front for several directions).", _int(1), EXPORT),
)

_DATA = (
    FormField("data.path", "File, URL or sklearn:<name>, as the workers see it.", _text(minLength=1), DATA),
    FormField(
        "data.format",
        "What the file is: csv or parquet; with distribution dataframe any format Spark reads, or table, a table of its"
        " catalog. Empty: by the file's ending.",
        _text(null=True, examples=["csv", "parquet", "orc", "json", "delta", "table"]),
        DATA,
    ),
    FormField("data.separator", "Separator of a CSV file.", _text(minLength=1, maxLength=1), DATA),
    FormField("data.label", "Column to predict. Empty: the last one.", _text(null=True), DATA),
    FormField(
        "data.sha256",
        "SHA-256 of the file, 64 hex digits; required for a URL.",
        _text(null=True, pattern="^[0-9a-f]{64}$"),
        DATA,
    ),
)

_XGBOOST = (
    FormField(
        "xgboost.task",
        "What is predicted.",
        {"type": "string", "enum": ["regression", "binary", "multiclass"]},
        TRAINING,
    ),
    FormField(
        "xgboost.metric",
        "XGBoost's name of the evaluation metric, for each direction one a line. Empty: rmse, logloss or mlogloss.",
        {"type": ["null", "string", "array"], "items": {"type": "string"}},
        TRAINING,
    ),
    FormField(
        "xgboost.holdout",
        "Share of the rows kept for validation; not used with folds.",
        _number(exclusiveMinimum=0, exclusiveMaximum=1),
        TRAINING,
    ),
    FormField(
        "xgboost.folds",
        "Folds of a cross-validation, each trained once in a trial. Empty: one training with the hold-out.",
        _int(2, null=True),
        TRAINING,
    ),
    FormField(
        "xgboost.num_boost_round",
        "Boosting rounds of a training, at most: one tree each, or one a class.",
        _int(1),
        TRAINING,
    ),
    FormField(
        "xgboost.early_stopping_rounds",
        "End a training when so many rounds brought nothing. Empty: never.",
        _int(1, null=True),
        TRAINING,
    ),
    FormField("xgboost.report_every", "Boosting rounds between two reports to the pruner.", _int(1), TRAINING),
    FormField(
        "xgboost.fixed", 'XGBoost parameters that are not tuned, such as {"booster": "dart"}.', _OBJECT, TRAINING
    ),
)


_NEW_CLUSTER = (
    FormField(
        "databricks.cluster.node_type",
        "Machine type of the workers, in the cloud's words. Empty: the instance pool's or policy's.",
        _text(null=True),
        CLUSTER,
        "node_type",
    ),
    FormField(
        "databricks.cluster.workers",
        "Workers of the new cluster; 0 = a single machine. Not used with autoscale.",
        _int(0),
        CLUSTER,
        "workers",
    ),
)


def form_fields(study: StudyFile) -> tuple[FormField, ...]:
    """The fields that mean something for this study."""
    settings = study.settings
    return (
        *_COMMON,
        *(_DATA if settings.data is not None else ()),
        *(_XGBOOST if settings.objective == "xgboost" else ()),
        *(_NEW_CLUSTER if settings.target == "databricks" and not settings.databricks.existing_cluster_id else ()),
    )


def form_params(study: StudyFile) -> dict[str, Param]:
    """The DAG's Params: `mode`, then a field for every tunable key with the study file's value as default.

    Raises:
        StudyFileError: A default does not fit its field.
    """
    params = {"mode": Param("resume", type="string", enum=list(MODES), title="Mode", description=MODE_HELP)}
    defaults = to_dict(study.settings)
    for item in form_fields(study):
        section: dict[str, Any] = {"section": item.section} if item.section else {}
        title = _title(item.param)
        default = _value_at(study.document, defaults, item.key)
        params[item.param] = Param(default, title=title, description=item.help, **item.schema, **section)
    return params


def study_of_run(study: StudyFile, params: Mapping[str, Any], conf: Mapping[str, Any] | None) -> StudyFile:
    """The study with the values of this run's form.

    Args:
        study: As its file says.
        params: The run's Params.
        conf: What the run was triggered with; Airflow drops keys it does not know without a word.

    Raises:
        StudyFileError: An unknown key, or a value that breaks a rule.
    """
    fields = {item.param: item.key for item in form_fields(study)}
    for name in conf or {}:
        if name not in fields and name != "mode":
            raise StudyFileError(f"trigger conf: {unknown_key(name, ['mode', *fields])}")
    mode_of(params)
    return study.changed({key: params[name] for name, key in fields.items() if name in params})


def mode_of(params: Mapping[str, Any]) -> str:
    """What to do with a study that exists."""
    mode = params.get("mode", "resume")
    if mode not in MODES:
        raise StudyFileError(f"trigger conf: mode must be one of {', '.join(MODES)}, got {describe(mode)}")
    return str(mode)


def _title(name: str) -> str:
    """A Param's name as a person writes it: `timeout_s` is Timeout (seconds)."""
    words = [_WORDS.get(word, word) for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


_WORDS = {
    "s": "(seconds)",
    "cpus": "CPUs",
    "gpus": "GPUs",
    "spark": "Spark",
    "conf": "properties",
    "args": "arguments",
    "sha256": "SHA-256",
    "xgboost": "XGBoost",
}


def _value_at(document: Mapping[str, Any], defaults: Mapping[str, Any], key: str) -> Any:
    """The value under a dotted key, as the author wrote it where they did."""
    given: Any = document
    default: Any = defaults
    for part in key.split("."):
        given = given.get(part) if isinstance(given, Mapping) else None
        default = default[part]
    return default if given is None else given
