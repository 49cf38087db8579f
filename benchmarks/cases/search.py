"""Case d: boosting rounds and seconds until a study comes within 1 % of the best value that any study found."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from benchmarks.cases.bench import Bench, CaseResult
from benchmarks.cases.studies import seconds_between, trials_of
from benchmarks.results import Samples, Table, number, ratio, verdict
from init.local.console import detail, say
from optuna_spark.errors import DataError
from optuna_spark.fetch import local_file
from optuna_spark.spec import ComponentSpec, CoordinatorSpec, DataSpec, TuningSpec, XGBoostSpec

SEEDS = (1, 2, 3, 4, 5, 6, 7)
TRIALS = 160
WORKERS = 2
NEAR = 1.01
LIMIT_S = 240.0
PLAIN, PRUNED, MEDIAN = "no pruning", "ExtrapolationPruner", "MedianPruner"
WINDOW = "no pruning, history 100"

WINE = DataSpec(
    "https://archive.ics.uci.edu/ml/machine-learning-databases/wine-quality/winequality-red.csv",
    format="csv",
    separator=";",
    label="quality",
    sha256="4a402cf041b025d4566d954c3b9ba8635a3a8a01e039005d97d6a710278cf05e",
)
# Comes with scikit-learn: every machine has it.
BUNDLED = DataSpec("sklearn:diabetes")
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
    WINDOW: replace(BASE, coordinator=CoordinatorSpec(history=100)),
}


@dataclass(frozen=True)
class Search:
    """One study, in the order in which its trials ended."""

    variant: str
    seed: int
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
    """Each variant with the same seeds; the target is known when all have run."""
    data, shown = table_to_search()
    say(f"d: {TRIALS} XGBoost trials on {shown}, {len(SEEDS)} seeds, {', '.join(VARIANTS)}")
    searches = []
    for seed in SEEDS:
        for variant, spec in VARIANTS.items():
            if bench.wanted(variant):
                searches.append(_search(bench, variant, seed, replace(spec, data=data)))
                detail(f"d: {variant}, seed {seed}: best {searches[-1].best:.4f}")
    samples = Samples("d")
    samples.note("best known", "table", shown)
    if searches:
        best = min(search.best for search in searches)
        samples.note("best known", "best", best)
        for search in searches:
            samples.add(search.variant, search.until(NEAR * best))
    return CaseResult(samples.measurements(), [table(samples, shown)])


def table_to_search() -> tuple[DataSpec, str]:
    """The wine table where it can be had, else the bundled one; and its name."""
    try:
        return replace(WINE, path=str(local_file(WINE)), sha256=None), "the wine table"
    except DataError as error:
        detail(f"d: {error}")
        return BUNDLED, "the diabetes table"


def _search(bench: Bench, variant: str, seed: int, spec: TuningSpec) -> Search:
    url = bench.machine.new_database()
    spec = replace(spec, sampler=ComponentSpec("TPESampler", {"seed": seed}))
    bench.machine.run("ours", [spec.to_json()], url=url, timeout_s=LIMIT_S)
    return Search(variant, seed, _ended(url))


def _ended(url: sqlalchemy.URL) -> list[FrozenTrial]:
    ended = [trial for trial in trials_of(url) if trial.datetime_complete is not None]
    return sorted(ended, key=lambda trial: trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0)


def table(samples: Samples, shown: str) -> Table:
    rows = []
    base = samples.median(PLAIN, "rounds")
    for name in VARIANTS:
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
    columns = ("variant", "rounds", "of no pruning", "seconds", "trials", f"seeds of {len(SEEDS)}", "best")
    title = f"d: to within 1 % of the best value found on {shown}, medians over {len(SEEDS)} seeds"
    return Table(title, columns, rows, _verdicts(samples))


def _verdicts(samples: Samples) -> list[str]:
    """Fewer rounds count only where the target was reached as often."""
    return [
        verdict("rounds with ExtrapolationPruner, share of without", _share(samples, PRUNED), 0.5, at_most=True),
        verdict("seeds that come there without pruning alone", _lost(samples, PRUNED), 0, at_most=True),
        verdict("seeds that come there with the whole history alone", _lost(samples, WINDOW), 0, at_most=True),
    ]


def _share(samples: Samples, name: str) -> float | None:
    rounds, base = samples.median(name, "rounds"), samples.median(PLAIN, "rounds")
    return rounds / base if rounds and base else None


def _lost(samples: Samples, name: str) -> float | None:
    """How many seeds fewer than without pruning came there."""
    reached, base = samples.mean(name, "reached"), samples.mean(PLAIN, "reached")
    return None if reached is None or base is None else round(len(SEEDS) * (base - reached))
