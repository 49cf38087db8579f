"""Case d: how many boosting rounds and seconds a study needs to come within 1 % of the best value of all studies.

Each study has one worker, so that the same seed gives the same search. As many studies run at once as there are cores.
The variants are compared by totals over the seeds, because their ratio varies half as much as that of medians.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass, replace

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from benchmarks.cases.bench import Bench, CaseResult
from benchmarks.cases.lanes import in_lanes
from benchmarks.cases.studies import trials_of
from benchmarks.luck import spread
from benchmarks.machine import ContenderError, Machine
from benchmarks.results import Samples, Table, divided, number, ratio, verdict
from init.local.console import detail, say
from init.local.layout import REPOSITORY, Layout
from optuna_spark.data.sources import local_file
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.sections import ComponentSpec
from optuna_spark.spec.tuning import TuningSpec

SEEDS, TRIALS = range(1, 11), 80
NEAR = 1.01
LIMIT_S = 240.0
TOTALS = ("rounds", "train_s", "reached")
PLAIN, PRUNED, MEDIAN = "no pruning", "ExtrapolationPruner", "MedianPruner"

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
    """Compare studies with and without pruning."""
    data, shown = table_to_search()
    samples = Samples("d/pruning")
    samples.note("all", "table", shown)
    compare(bench, samples, {name: replace(spec, data=data) for name, spec in VARIANTS.items()}, shown)
    title = f"d: {TRIALS} trials on {shown}"
    return CaseResult(samples.measurements(), [table(samples, title, _verdicts(samples))])


def compare(bench: Bench, samples: Samples, variants: dict[str, TuningSpec], shown: str) -> None:
    """Run each variant with the same seeds. Only then is the target known, because it depends on the best value."""
    wanted = {name: spec for name, spec in variants.items() if bench.wanted(name)}
    say(f"{samples.case}: XGBoost on {shown}, {len(SEEDS)} seeds: {', '.join(wanted)}")

    def search(machine: Machine, job: tuple[int, str]) -> Search:
        seed, variant = job
        found = _search(machine, variant, seed, wanted[variant])
        detail(f"{samples.case}: {variant}, seed {seed}: best {found.best:.4f}")
        return found

    searches = in_lanes(bench.machine, itertools.product(SEEDS, wanted), search)
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
    names = [name for name in VARIANTS if samples.total(name, "rounds") is not None]
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


def _verdicts(samples: Samples) -> list[str]:
    """The verdicts on pruning. Fewer rounds are worth nothing if fewer seeds reach the target."""
    return [
        _compared(samples, "rounds with ExtrapolationPruner, share of without", "rounds", PRUNED, PLAIN, 0.5),
        verdict("seeds that come there without pruning alone", _seeds_lost(samples, PLAIN, PRUNED), 0, at_most=True),
    ]


def _compared(samples: Samples, what: str, metric: str, variant: str, base: str, limit: float) -> str:
    """A verdict on the ratio of two variants' totals over the seeds, with the range that luck explains."""
    share = divided(samples.total(variant, metric), samples.total(base, metric))
    luck = spread(samples.values(variant, metric), samples.values(base, metric), np.sum)
    return verdict(what, share, limit, at_most=True) + luck


def _seeds_lost(samples: Samples, first: str, second: str) -> float | None:
    """How many fewer seeds reach the target with the second variant than with the first."""
    reached, base = samples.total(second, "reached"), samples.total(first, "reached")
    return None if reached is None or base is None else base - reached
