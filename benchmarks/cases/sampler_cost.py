"""Case samplers: what a proposal of each sampler, and a decision of each pruner, costs the driver in a long study.

In one process, with the study in the driver's memory as in a run, and without workers, messages and database.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks.cases.bench import Bench, CaseResult, Contender, run_all
from benchmarks.results import Samples, Table, number
from init.local.console import say
from optuna_spark.driver.dispatch.study import SampledStudy, StoredStudy
from optuna_spark.errors import SpecError
from optuna_spark.sampling.search_space import distributions
from optuna_spark.spec.sections import ComponentSpec, ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from optuna_spark.wire.messages import Outcome

HISTORIES = (1000, 10_000)
PROPOSALS, DECISIONS, STEPS = 20, 200, 20
LIMIT_S = 600.0
MIXED = {
    "x": ParamSpec("float", low=-5, high=5),
    "y": ParamSpec("float", low=-5, high=5),
    "rate": ParamSpec("float", low=1e-4, high=1, log=True),
    "depth": ParamSpec("int", low=1, high=20),
    "kind": ParamSpec("categorical", choices=("a", "b", "c")),
}
NUMBERS = {name: param for name, param in MIXED.items() if name != "kind"}
POINTS = {"i": ParamSpec("int", low=0, high=149), "j": ParamSpec("int", low=0, high=149)}
GRID = {name: list(range(150)) for name in POINTS}
TWO = "several directions"
SAMPLERS: Mapping[str, tuple[ComponentSpec, Mapping[str, ParamSpec]]] = {
    "TPESampler": (ComponentSpec("TPESampler"), MIXED),
    f"TPESampler, {TWO}": (ComponentSpec("TPESampler"), MIXED),
    "GPSampler": (ComponentSpec("GPSampler"), MIXED),
    "CmaEsSampler": (ComponentSpec("CmaEsSampler"), NUMBERS),
    f"NSGAIISampler, {TWO}": (ComponentSpec("NSGAIISampler"), MIXED),
    f"NSGAIIISampler, {TWO}": (ComponentSpec("NSGAIIISampler"), MIXED),
    "QMCSampler": (ComponentSpec("QMCSampler"), NUMBERS),
    "RandomSampler": (ComponentSpec("RandomSampler"), MIXED),
    "GridSampler": (ComponentSpec("GridSampler", {"search_space": GRID}), POINTS),
    "BruteForceSampler": (ComponentSpec("BruteForceSampler"), POINTS),
    "PartialFixedSampler": (
        ComponentSpec("PartialFixedSampler", {"fixed_params": {"x": 1.0}, "base_sampler": {"name": "TPESampler"}}),
        MIXED,
    ),
}
PRUNERS: Mapping[str, dict[str, Any]] = {
    "NopPruner": {},
    "ExtrapolationPruner": {"max_resource": STEPS},
    "MedianPruner": {},
    "PercentilePruner": {"percentile": 25.0},
    "SuccessiveHalvingPruner": {},
    "HyperbandPruner": {"max_resource": STEPS},
    "ThresholdPruner": {"upper": 1e9},
    "PatientPruner": {"wrapped_pruner": {"name": "MedianPruner"}, "patience": 3},
    "WilcoxonPruner": {},
}


def run(bench: Bench) -> CaseResult:
    """Measure all of them in studies of 1,000 and 10,000 trials of random search."""
    say(f"samplers: a proposal and a pruner's decision after {' and '.join(f'{n:,}' for n in HISTORIES)} trials")
    samples = Samples("samplers")
    contenders = [Contender(name, partial(_proposals, name)) for name in SAMPLERS]
    contenders += [Contender(name, partial(_decisions, name)) for name in PRUNERS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_all(bench, samples, contenders, LIMIT_S)
    return CaseResult(samples.measurements(), [table(samples)])


def _proposals(name: str) -> dict[str, float] | None:
    """CPU time of the driver for a trial: sampled, and told to the sampler."""
    component, space = SAMPLERS[name]
    n_values = 2 if TWO in name else 1

    def ask_and_tell(study: SampledStudy) -> None:
        trial = study.ask()
        study.tell(trial.number, Outcome(TrialState.COMPLETE, (1.0,) * n_values))

    return _measured(TuningSpec("cost", search_space=dict(space), seed=1, sampler=component), n_values, ask_and_tell)


def _decisions(name: str) -> dict[str, float] | None:
    """CPU time of the driver for a report and the pruner's decision on it."""
    pruner, sampler = ComponentSpec(name, PRUNERS[name]), ComponentSpec("RandomSampler")

    def report_all(study: SampledStudy) -> None:
        trial = study.ask()
        for step in range(1, STEPS + 1):
            trial.report(1 / step, step)
            study.should_prune(trial)
        study.tell(trial.number, Outcome(TrialState.COMPLETE, (0.0,)))

    spec = TuningSpec("cost", search_space=dict(NUMBERS), seed=1, sampler=sampler, pruner=pruner)
    measured = _measured(spec, 1, report_all, DECISIONS // STEPS)
    return measured and {key: value / STEPS for key, value in measured.items()}


def _measured(
    spec: TuningSpec, n_values: int, step: Callable[[SampledStudy], None], times: int = PROPOSALS
) -> dict[str, float] | None:
    """CPU milliseconds of a step after each history, by a metric's name; none where a package is missing."""
    directions = [StudyDirection.MINIMIZE] * n_values
    result = {}
    for count in HISTORIES:
        stored = history(spec, count, n_values)
        try:
            study = SampledStudy(spec, StoredStudy(directions, stored, {}))
        except SpecError as error:
            say(f"not measured: {error}")
            return {}
        step(study)  # reads the stored trials
        begin = time.process_time()
        for _ in range(times):
            step(study)
        result[f"cpu_ms_{count}"] = 1000 * (time.process_time() - begin) / times
    return result


def history(spec: TuningSpec, count: int, n_values: int) -> list[FrozenTrial]:
    """Trials of random search, with a learning curve each, and in generations for samplers that count them."""
    chance, space = random.Random(1), distributions(spec.search_space)  # noqa: S311  # not a secret
    trials = []
    for number_ in range(count):
        params = {name: _random(distribution, chance) for name, distribution in space.items()}
        end = chance.random()
        curve = {step: end + chance.random() / step for step in range(1, STEPS + 1)} if n_values == 1 else {}
        trial = create_trial(
            params=params,
            distributions=space,
            values=[end, chance.random()][:n_values],
            intermediate_values=curve,
            system_attrs={f"{spec.sampler.name}:generation": number_ // 50},
        )
        trial.number = number_
        trials.append(trial)
    return trials


def _random(distribution: object, chance: random.Random) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return chance.choice(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return chance.randint(distribution.low, distribution.high)
    assert isinstance(distribution, FloatDistribution)
    return chance.uniform(distribution.low, distribution.high)


def table(samples: Samples) -> Table:
    rows = []
    for name in (*SAMPLERS, *PRUNERS):
        costs = (samples.median(name, f"cpu_ms_{count}") for count in HISTORIES)
        rows.append((name, *(number(cost, 2 if name in SAMPLERS else 3) for cost in costs)))
    columns = ("sampler or pruner", *(f"ms of CPU at {count:,}" for count in HISTORIES))
    return Table("samplers: a proposal, or a report and a pruner's decision", columns, rows)
