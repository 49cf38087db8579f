"""The keys that a study file shares with the run it becomes: declared once, for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.form_fields import CLUSTER, SEARCH, STOPPING, VALUE, VALUES, plain
from optuna_spark.spec.key import Field, Group, Key, Reach, key
from optuna_spark.spec.model import ModelSpec
from optuna_spark.spec.sections import ComponentSpec, CoordinatorSpec, ParamSpec, ResourceSpec, StopSpec, TrackingSpec

Direction = Literal["minimize", "maximize"]
Distribution = Literal["joblib", "rdd", "dataframe", "local"]
Coordination = Literal["driver", "database"]

DIRECTIONS: tuple[str, ...] = get_args(Direction)
DISTRIBUTIONS: tuple[str, ...] = get_args(Distribution)
COORDINATIONS: tuple[str, ...] = get_args(Coordination)

# What these keys may name in a run. A study file may name any class of Optuna's, and module:Class of another package;
# those that take another sampler or pruner as an argument are for the file.
SAMPLERS = (
    "TPESampler", "GPSampler", "CmaEsSampler", "NSGAIISampler", "NSGAIIISampler", "RandomSampler", "QMCSampler",
    "GridSampler", "BruteForceSampler",
)  # fmt: skip
PRUNERS = (
    "NopPruner", "ExtrapolationPruner", "MedianPruner", "PercentilePruner", "HyperbandPruner",
    "SuccessiveHalvingPruner", "ThresholdPruner", "WilcoxonPruner",
)  # fmt: skip
DEFAULT_SAMPLER = ComponentSpec("TPESampler")
DEFAULT_PRUNER = ComponentSpec("NopPruner")


@dataclass(frozen=True, kw_only=True)
class RunKeys:
    """What is tuned, how it is searched, and on what."""

    objective: str = key(
        "quadratic",
        "A built-in objective by name, or module:function for one of your own; a module, or a package's folder,"
        " beside the study file travels to the cluster.",
        group=Group.TUNED,
    )
    directions: tuple[Direction, ...] = key(
        ("minimize",),
        "minimize or maximize, for each value the objective returns. For one value also direction: minimize.",
        field=plain(
            SEARCH, schema={"type": "array", "items": {"enum": list(DIRECTIONS)}, "minItems": 1, "maxItems": 100}
        ),
        group=Group.TUNED,
    )
    metric_names: tuple[str, ...] = key(
        (),
        "What the values of an objective of your own are called in dashboards, tab, report and best_params.json, such"
        " as [accuracy, leaves]: one name for each of directions. Empty: value.",
        group=Group.TUNED,
    )
    data: DataSpec | None = key(None, "The training table.", group=Group.TUNED)
    search_space: dict[str, ParamSpec] = key(
        None,
        "Parameters by name: type float or int with low and high (both included) and step or log: true; or type"
        " categorical with choices. With when: {booster: dart} a parameter exists only where another has this value, or"
        " one of a list. Empty: what the objective brings.",
        make=dict,
        field=plain(SEARCH, words=("float", "int", "categorical"), holds_parameters=True),
        group=Group.TUNED,
    )
    model: ModelSpec | None = key(
        None, "The final model, which the best trial's parameters make. null: none is trained.", group=Group.EXPORTED
    )
    # The section of the study file that is named after the objective: the registry of objectives declares its keys.
    objective_section: dict[str, Any] = key(None, "How the objective works.", make=dict, group=Group.TUNED)
    sampler: ComponentSpec = key(
        DEFAULT_SAMPLER,
        "How parameters are chosen; a class name alone, or name and args.",
        group=Group.SEARCHED,
        parts={
            "name": Key(
                "A class of optuna.samplers, such as TPESampler, GPSampler or RandomSampler; or module:Class of another"
                " package that is installed where the driver runs.",
                field=plain(SEARCH, "sampler", closed=SAMPLERS, schema={"minLength": 1}),
            ),
            "args": Key(
                "Arguments of the sampler by name, such as {n_startup_trials: 20}.",
                # The texts are of QMCSampler and CmaEsSampler.
                field=plain(
                    SEARCH, words=("sobol", "halton", "ipop", "bipop"), holds_parameters=True, are_arguments=True
                ),
            ),
        },
    )
    pruner: ComponentSpec = key(
        DEFAULT_PRUNER,
        "What ends hopeless trials early; a class name alone, or name and args.",
        group=Group.SEARCHED,
        parts={
            "name": Key(
                "ExtrapolationPruner or a class of optuna.pruners; NopPruner ends none. Or module:Class of another"
                " package that is installed where the driver runs.",
                field=plain(SEARCH, "pruner", closed=PRUNERS, schema={"minLength": 1}),
            ),
            "args": Key(
                "Arguments of the pruner by name, such as {n_warmup_steps: 50}.",
                # Of pruners that find out the number of steps.
                field=plain(SEARCH, words=("auto",), are_arguments=True),
            ),
        },
    )
    seed: int | None = key(
        None,
        "Seed of the sampler and of the train/validation split. null: another one each time.",
        minimum=0,
        maximum=2**32 - 1,
        field=plain(SEARCH),
        group=Group.SEARCHED,
    )
    trials: int = key(
        100,
        "Trials this run adds to the study. A trial is one call of the objective with one set of parameters.",
        minimum=1,
        maximum=10_000_000,
        field=plain(),
        group=Group.SEARCHED,
    )
    tasks: int = key(
        2,
        "Trials that run at the same time, one Spark task each.",
        minimum=1,
        maximum=10_000,
        field=plain(),
        group=Group.SEARCHED,
    )
    timeout_s: float | None = key(
        None,
        "Seconds after which no new trial starts; the run then ends well. null: no limit.",
        above=0,
        maximum=1e9,
        field=plain(),
        group=Group.SEARCHED,
    )
    grace_s: float = key(
        60.0,
        "Seconds that running trials have to end after timeout_s, target value, terminator or study.stop(), or once"
        " somebody tells the run to finish; then they fail, and the run ends with what it has.",
        minimum=0,
        maximum=1e9,
        field=plain(STOPPING),
        group=Group.SEARCHED,
    )
    enqueue: tuple[dict[str, Any], ...] = key(
        (),
        "Sets of parameters to try first, such as [{x: 1.5}]; each name and value must fit the search space.",
        field=plain(
            SEARCH,
            schema={
                "type": "array",
                "items": {"type": "object", "additionalProperties": VALUE},
                "maxItems": 10_000,
                "$defs": VALUES["$defs"],
            },
            words=(),
            holds_parameters=True,
        ),
        group=Group.SEARCHED,
    )
    stop: StopSpec = key(StopSpec(), "What ends a run early, and what makes it fail.", group=Group.SEARCHED)
    distribution: Distribution = key(
        "joblib",
        "How Spark starts the workers: joblib or rdd (each reads the data itself), dataframe (Spark reads it).",
        field=plain(CLUSTER, schema={"enum": ["joblib", "rdd", "dataframe"]}),
        group=Group.RUNS,
    )
    jobs: int = key(
        8,
        "Threads that start Spark jobs at once (joblib only).",
        minimum=1,
        maximum=1_000,
        field=plain(CLUSTER),
        group=Group.RUNS,
    )
    coordination: Coordination = key(
        "driver",
        "Who hands out trials: the driver (workers need no database), or the database (every worker opens it, with"
        " its password).",
        field=Field(Reach.SECRET, CLUSTER),
        group=Group.RUNS,
    )
    artifacts: str | None = key(
        None,
        "Folder for the files that trials keep with optuna.artifacts, such as models: an absolute path that every"
        " worker can write to, such as /Volumes/... on Databricks. Workers make it. null: an objective has none.",
        pattern=r"/.*",
        must="be an absolute path that every worker sees",
        group=Group.RUNS,
    )
    wait_for_resources_s: float = key(
        60.0,
        "Seconds after which the run ends when no worker has what one executor needs; anew when a worker joins. Not"
        " used on Databricks, where what fits on no node is refused before the run.",
        minimum=0,
        maximum=1e9,
        field=plain(CLUSTER),
        group=Group.RUNS,
    )
    resources: ResourceSpec = key(ResourceSpec(), "What one trial occupies.", group=Group.RUNS)
    coordinator: CoordinatorSpec = key(
        CoordinatorSpec(), "How workers reach the driver that hands out the trials.", group=Group.RUNS
    )
    tracking: TrackingSpec | None = key(
        None,
        "An MLflow server that gets a run for each run of this study, and one below it for each trial.",
        group=Group.EXPORTED,
    )
