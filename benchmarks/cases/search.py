"""Case d: how many boosting rounds and seconds a study needs to come within 1 % of the best value of all studies.

Each study has one worker, so that the same seed gives the same search. As many studies run at once as there are cores.
The variants are compared by totals over the seeds, because their ratio varies half as much as that of medians.
"""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue

from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from benchmarks.cases.bench import Bench, CaseResult
from benchmarks.cases.studies import trials_of
from benchmarks.machine import ContenderError, Machine
from benchmarks.results import Samples, Table, divided, number, ratio, verdict
from init.local.console import detail, say
from init.local.layout import REPOSITORY, Layout
from optuna_spark.data.sources import local_file
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ComponentSpec, CoordinatorSpec
from optuna_spark.spec.tuning import TuningSpec

SEEDS, LONG_SEEDS = range(1, 11), range(1, 21)
# From 250 finished trials on, TPE takes no more than 25 good ones: a smaller window would change the search.
TRIALS, LONG_TRIALS, SHOWN = 80, 750, 250
NEAR = 1.01
LIMIT_S = 240.0
TOTALS = ("rounds", "train_s", "reached")
PLAIN, PRUNED, MEDIAN = "no pruning", "ExtrapolationPruner", "MedianPruner"
WHOLE, WINDOW = "whole history", f"history of {SHOWN}"

WINE = DataSpec(
    "https://archive.ics.uci.edu/ml/machine-learning-databases/wine-quality/winequality-red.csv",
    format="csv",
    separator=";",
    label="quality",
    sha256="4a402cf041b025d4566d954c3b9ba8635a3a8a01e039005d97d6a710278cf05e",
)
# Comes with scikit-learn, so every machine has it.
BUNDLED, BUNDLED_NAME = DataSpec("sklearn:diabetes"), "the diabetes table"
BASE = TuningSpec(
    study_name="bench",
    objective="xgboost",
    data=BUNDLED,
    objective_section={"task": "regression", "metric": "rmse", "folds": 3, "num_boost_round": 200, "report_every": 5},
    # The seed of the split is the same for all, so that values can be compared. The sampler's seed varies.
    seed=7,
    trials=TRIALS,
    tasks=1,
    distribution="local",
    run_id="bench",
)
VARIANTS = {
    PLAIN: BASE,
    PRUNED: replace(BASE, pruner=ComponentSpec("ExtrapolationPruner")),
    MEDIAN: replace(BASE, pruner=ComponentSpec("MedianPruner", {"n_warmup_steps": 20})),
}
# Cheaper trials, because there are many of them.
SHORT = {"task": "regression", "metric": "rmse", "folds": 3, "num_boost_round": 50}
LONG = replace(BASE, trials=LONG_TRIALS, objective_section=SHORT)
LONG_VARIANTS = {WHOLE: LONG, WINDOW: replace(LONG, coordinator=CoordinatorSpec(history=SHOWN))}


@dataclass(frozen=True)
class Search:
    """The trials of one study, in the order in which its worker ran them."""

    variant: str
    trials: list[FrozenTrial]

    @property
    def best(self) -> float:
        return min(t.value for t in self.trials if t.state == TrialState.COMPLETE and t.value is not None)

    def until(self, target: float) -> dict[str, float]:
        """Rounds and seconds of training up to the first trial at or below the target; those of all if none is."""
        rounds, seconds, run, reached = 0, 0.0, 0, 0.0
        for trial in self.trials:
            run += 1
            rounds += int(trial.user_attrs.get("rounds", 0))
            seconds += float(trial.user_attrs.get("train_s", 0.0))
            if trial.state == TrialState.COMPLETE and trial.value is not None and trial.value <= target:
                reached = 1.0
                break
        return {"rounds": rounds, "train_s": seconds, "trials": run, "reached": reached, "best": self.best}


def run(bench: Bench) -> CaseResult:
    """Compare studies with and without pruning, then long studies whose sampler sees all trials or a window."""
    data, shown = table_to_search()
    pruning = Samples("d/pruning")
    pruning.note("all", "table", shown)
    compare(bench, pruning, {name: replace(spec, data=data) for name, spec in VARIANTS.items()}, SEEDS, shown)
    window = Samples("d/history")
    compare(bench, window, LONG_VARIANTS, LONG_SEEDS, BUNDLED_NAME)
    tables = [
        table(pruning, f"d: {TRIALS} trials on {shown}", _pruning_verdicts(pruning)),
        table(window, f"d: {LONG_TRIALS} trials on {BUNDLED_NAME}", _history_verdicts(window)),
    ]
    return CaseResult(pruning.measurements() + window.measurements(), tables)


def compare(bench: Bench, samples: Samples, variants: dict[str, TuningSpec], seeds: range, shown: str) -> None:
    """Run each variant with the same seeds. Only then is the target known, because it depends on the best value."""
    wanted = {name: spec for name, spec in variants.items() if bench.wanted(name)}
    say(f"{samples.case}: XGBoost on {shown}, {len(seeds)} seeds: {', '.join(wanted)}")
    # One lane for each core: studies that share a core would make each other's seconds longer.
    lanes: SimpleQueue[Machine] = SimpleQueue()
    for lane in range(len(os.sched_getaffinity(0))):
        lanes.put(bench.machine.lane(lane))

    def search(seed: int, variant: str) -> Search:
        machine = lanes.get()
        try:
            found = _search(machine, variant, seed, wanted[variant])
        finally:
            lanes.put(machine)
        detail(f"{samples.case}: {variant}, seed {seed}: best {found.best:.4f}")
        return found

    with ThreadPoolExecutor(lanes.qsize()) as pool:
        searches = list(pool.map(lambda pair: search(*pair), itertools.product(seeds, wanted)))
    if searches:
        best = min(search.best for search in searches)
        samples.note("all", "best", best)
        for found in searches:
            samples.add(found.variant, found.until(NEAR * best))
        for variant in wanted:
            for metric in TOTALS:
                samples.note(variant, f"{metric}_in_all", round(samples.total(variant, metric) or 0.0, 3))


def table_to_search() -> tuple[DataSpec, str]:
    """The wine table if it can be fetched, else the bundled one; with its name."""
    # The folder in which `make run STUDY=wine_quality` keeps the table.
    os.environ.setdefault("TUNING_STATE", str(Layout(REPOSITORY).state))
    try:
        return replace(WINE, path=str(local_file(WINE)), sha256=None), "the wine table"
    except DataError as error:
        detail(f"d: {error}")
        return BUNDLED, BUNDLED_NAME


def _search(machine: Machine, variant: str, seed: int, spec: TuningSpec) -> Search:
    url = machine.new_database()
    spec = replace(spec, sampler=ComponentSpec("TPESampler", {"seed": seed}))
    if machine.run("ours", [spec.to_json()], url=url, timeout_s=LIMIT_S).timed_out:
        raise ContenderError(f"a study of case d was not done after {LIMIT_S:g} s: {variant}, seed {seed}")
    return Search(variant, [trial for trial in trials_of(url) if trial.state.is_finished()])


def table(samples: Samples, title: str, verdicts: list[str]) -> Table:
    names = [name for name in (*VARIANTS, *LONG_VARIANTS) if samples.total(name, "rounds") is not None]
    base = samples.total(names[0], "rounds") if names else None
    rows = [
        (
            name,
            number(samples.total(name, "rounds"), 0),
            ratio(samples.total(name, "rounds"), base),
            number(samples.total(name, "train_s")),
            number(samples.median(name, "rounds"), 0),
            number(samples.median(name, "trials"), 0),
            number(samples.total(name, "reached"), 0),
            number(samples.median(name, "best"), 4),
        )
        for name in names
    ]
    columns = (
        "variant",
        "rounds in all",
        "of the first",
        "training s in all",
        "median rounds",
        "trials",
        "seeds there",
        "best",
    )
    return Table(f"{title}: to within 1 % of the best value found, by seed", columns, rows, verdicts)


def _pruning_verdicts(samples: Samples) -> list[str]:
    """The verdicts on pruning. Fewer rounds are worth nothing if fewer seeds reach the target."""
    return [
        _compared(samples, "rounds with ExtrapolationPruner, share of without", "rounds", PRUNED, PLAIN, 0.5),
        verdict("seeds that come there without pruning alone", _seeds_lost(samples, PLAIN, PRUNED), 0, at_most=True),
    ]


def _history_verdicts(samples: Samples) -> list[str]:
    """The verdicts on the window.

    How many seeds reach the target is not among them: whether one does so before the window is full is luck.
    """
    best = "best value with a window, times that with the whole history"
    rounds = "rounds with a window, times those with the whole history"
    return [
        _compared(samples, best, "best", WINDOW, WHOLE, 1.002),
        _compared(samples, rounds, "rounds", WINDOW, WHOLE, 1.1),
    ]


def _compared(samples: Samples, what: str, metric: str, variant: str, base: str, limit: float) -> str:
    """A verdict on the ratio of two variants' totals over the seeds, with the range that luck explains."""
    share = divided(samples.total(variant, metric), samples.total(base, metric))
    return verdict(what, share, limit, at_most=True) + _spread(samples, metric, variant, base)


def _spread(samples: Samples, metric: str, variant: str, base: str) -> str:
    """The range that holds 90 % of the ratios of two variants' totals when the seeds are resampled (bootstrap)."""
    values, others = samples.values(variant, metric), samples.values(base, metric)
    if len(values) < 2 or len(values) != len(others):
        return ""
    ratios = stats.bootstrap(
        (values, others),
        lambda first, second, axis: first.sum(axis=axis) / second.sum(axis=axis),
        paired=True,  # both variants ran with the same seeds
        vectorized=True,
        confidence_level=0.9,
        method="percentile",
        rng=0,
    ).confidence_interval
    return f"; with other seeds {ratios.low:.3f} to {ratios.high:.3f}, nine times of ten"


def _seeds_lost(samples: Samples, first: str, second: str) -> float | None:
    """How many fewer seeds reach the target with the second variant than with the first."""
    reached, base = samples.total(second, "reached"), samples.total(first, "reached")
    return None if reached is None or base is None else base - reached
