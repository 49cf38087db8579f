"""Case d: boosting rounds and seconds until a study comes within 1 % of the best value that any study found."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from benchmarks.cases.bench import Bench, CaseResult
from benchmarks.cases.studies import seconds_between, trials_of
from benchmarks.results import Samples, Table, divided, number, ratio, verdict
from init.local.console import detail, say
from init.local.layout import REPOSITORY, Layout
from optuna_spark.errors import DataError
from optuna_spark.fetch import local_file
from optuna_spark.spec import ComponentSpec, CoordinatorSpec, DataSpec, TuningSpec, XGBoostSpec

SEEDS = tuple(range(1, 12))
TRIALS, LONG_TRIALS = 120, 300
WORKERS = 2
NEAR = 1.01
LIMIT_S = 240.0
PLAIN, PRUNED, MEDIAN = "no pruning", "ExtrapolationPruner", "MedianPruner"
WHOLE, WINDOW = "whole history", "history of 100"

WINE = DataSpec(
    "https://archive.ics.uci.edu/ml/machine-learning-databases/wine-quality/winequality-red.csv",
    format="csv",
    separator=";",
    label="quality",
    sha256="4a402cf041b025d4566d954c3b9ba8635a3a8a01e039005d97d6a710278cf05e",
)
# Comes with scikit-learn: every machine has it.
BUNDLED, BUNDLED_NAME = DataSpec("sklearn:diabetes"), "the diabetes table"
BASE = TuningSpec(
    study_name="bench",
    objective="xgboost",
    data=BUNDLED,
    xgboost=XGBoostSpec(task="regression", metric="rmse", folds=3, num_boost_round=200, report_every=5),
    # The seed of the split: one for all, so that values compare. The sampler's differs from search to search.
    seed=7,
    trials=TRIALS,
    tasks=WORKERS,
    distribution="local",
    run_id="bench",
)
VARIANTS = {
    PLAIN: BASE,
    PRUNED: replace(BASE, pruner=ComponentSpec("ExtrapolationPruner")),
    MEDIAN: replace(BASE, pruner=ComponentSpec("MedianPruner", {"n_warmup_steps": 20})),
}
LONG = replace(BASE, trials=LONG_TRIALS)
LONG_VARIANTS = {WHOLE: LONG, WINDOW: replace(LONG, coordinator=CoordinatorSpec(history=100))}


@dataclass(frozen=True)
class Search:
    """One study, in the order in which its trials ended."""

    variant: str
    trials: list[FrozenTrial]

    @property
    def best(self) -> float:
        return min(t.value for t in self.trials if t.state == TrialState.COMPLETE and t.value is not None)

    def until(self, target: float) -> dict[str, float]:
        """Rounds and seconds to the first trial at or below the target; of the whole study if it never came there."""
        start = min(t.datetime_start for t in self.trials if t.datetime_start)
        rounds, run, reached = 0, 0, 0.0
        for trial in self.trials:
            run += 1
            rounds += int(trial.user_attrs.get("rounds", 0))
            if trial.state == TrialState.COMPLETE and trial.value is not None and trial.value <= target:
                reached = 1.0
                break
        assert trial.datetime_complete is not None
        seconds = seconds_between(start, trial.datetime_complete)
        return {"rounds": rounds, "seconds": seconds, "trials": run, "reached": reached, "best": self.best}


def run(bench: Bench) -> CaseResult:
    """With and without pruning; then long studies whose sampler sees everything, or a window."""
    data, shown = table_to_search()
    pruning = Samples("d/pruning")
    pruning.note("all", "table", shown)
    compare(bench, pruning, {name: replace(spec, data=data) for name, spec in VARIANTS.items()}, shown)
    window = Samples("d/history")
    compare(bench, window, LONG_VARIANTS, BUNDLED_NAME)
    tables = [
        table(pruning, f"d: {TRIALS} trials on {shown}", _pruning_verdicts(pruning)),
        table(window, f"d: {LONG_TRIALS} trials on {BUNDLED_NAME}", _history_verdicts(window)),
    ]
    return CaseResult(pruning.measurements() + window.measurements(), tables)


def compare(bench: Bench, samples: Samples, variants: dict[str, TuningSpec], shown: str) -> None:
    """Each variant with the same seeds; the target is known when all have run."""
    say(f"{samples.case}: XGBoost on {shown}, {len(SEEDS)} seeds: {', '.join(variants)}")
    searches = []
    for seed in SEEDS:
        for variant, spec in variants.items():
            if bench.wanted(variant):
                searches.append(_search(bench, variant, seed, spec))
                detail(f"{samples.case}: {variant}, seed {seed}: best {searches[-1].best:.4f}")
    if searches:
        best = min(search.best for search in searches)
        samples.note("all", "best", best)
        for search in searches:
            samples.add(search.variant, search.until(NEAR * best))


def table_to_search() -> tuple[DataSpec, str]:
    """The wine table where it can be had, else the bundled one; and its name."""
    # Where `make run STUDY=wine_quality` keeps it.
    os.environ.setdefault("TUNING_STATE", str(Layout(REPOSITORY).state))
    try:
        return replace(WINE, path=str(local_file(WINE)), sha256=None), "the wine table"
    except DataError as error:
        detail(f"d: {error}")
        return BUNDLED, BUNDLED_NAME


def _search(bench: Bench, variant: str, seed: int, spec: TuningSpec) -> Search:
    url = bench.machine.new_database()
    spec = replace(spec, sampler=ComponentSpec("TPESampler", {"seed": seed}))
    bench.machine.run("ours", [spec.to_json()], url=url, timeout_s=LIMIT_S)
    return Search(variant, _ended(url))


def _ended(url: sqlalchemy.URL) -> list[FrozenTrial]:
    ended = [trial for trial in trials_of(url) if trial.datetime_complete is not None]
    return sorted(ended, key=lambda trial: trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0)


def table(samples: Samples, title: str, verdicts: list[str]) -> Table:
    names = [name for name in (*VARIANTS, *LONG_VARIANTS) if samples.median(name, "rounds") is not None]
    base = samples.median(names[0], "rounds") if names else None
    rows = []
    for name in names:
        rounds, seconds = samples.median(name, "rounds"), samples.median(name, "seconds")
        reached = samples.mean(name, "reached")
        rows.append(
            (
                name,
                number(rounds, 0),
                ratio(rounds, base),
                number(seconds),
                number(samples.median(name, "trials"), 0),
                number(reached and reached * len(SEEDS), 0),
                number(samples.median(name, "best"), 4),
            )
        )
    columns = ("variant", "rounds", "of the first", "seconds", "trials", f"seeds of {len(SEEDS)}", "best")
    return Table(
        f"{title}: to within 1 % of the best value found, medians over {len(SEEDS)} seeds", columns, rows, verdicts
    )


def _pruning_verdicts(samples: Samples) -> list[str]:
    """Fewer rounds count only where the target was reached as often."""
    share = divided(samples.median(PRUNED, "rounds"), samples.median(PLAIN, "rounds"))
    lost = _seeds_lost(samples, PLAIN, PRUNED)
    return [
        verdict("rounds with ExtrapolationPruner, share of without", share, 0.5, at_most=True),
        verdict("seeds that come there without pruning alone", lost, 0, at_most=True),
    ]


def _history_verdicts(samples: Samples) -> list[str]:
    share = divided(samples.median(WINDOW, "best"), samples.median(WHOLE, "best"))
    lost = _seeds_lost(samples, WHOLE, WINDOW)
    return [
        verdict("best value with a window, times that with the whole history", share, 1.01, at_most=True),
        verdict("seeds that come there with the whole history alone", lost, 0, at_most=True),
    ]


def _seeds_lost(samples: Samples, first: str, second: str) -> float | None:
    """How many seeds fewer than with the first came there with the second."""
    reached, base = samples.mean(second, "reached"), samples.mean(first, "reached")
    return None if reached is None or base is None else round(len(SEEDS) * (base - reached))
