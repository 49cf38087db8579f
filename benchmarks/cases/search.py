"""Case d: boosting rounds and seconds until a study comes within 1 % of the best value anybody found."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from benchmarks.cases.bench import Bench, CaseResult
from benchmarks.cases.studies import seconds_between, trials_of
from benchmarks.results import Samples, Table, number, ratio, verdict
from init.local.console import detail, say
from optuna_spark.spec import ComponentSpec, CoordinatorSpec, DataSpec, ParamSpec, TuningSpec, XGBoostSpec

SEEDS = (1, 2, 3, 4, 5)
TRIALS = 80
WORKERS = 2
NEAR = 1.01
LIMIT_S = 240.0
PLAIN, PRUNED, WINDOW = "no pruning", "pruning", "no pruning, history 100"

SPACE = {
    "learning_rate": ParamSpec("float", 0.01, 0.3, log=True),
    "max_depth": ParamSpec("int", 2, 10),
    "min_child_weight": ParamSpec("int", 1, 20),
    "subsample": ParamSpec("float", 0.4, 1.0),
    "colsample_bytree": ParamSpec("float", 0.4, 1.0),
}
BASE = TuningSpec(
    study_name="bench",
    objective="xgboost",
    search_space=SPACE,
    # The table comes with scikit-learn: every machine has it.
    data=DataSpec("sklearn:diabetes"),
    xgboost=XGBoostSpec(task="regression", metric="rmse", folds=3, num_boost_round=200, report_every=5),
    trials=TRIALS,
    tasks=WORKERS,
    distribution="local",
    run_id="bench",
)
VARIANTS = {
    PLAIN: BASE,
    PRUNED: replace(BASE, pruner=ComponentSpec("MedianPruner", {"n_startup_trials": 5, "n_warmup_steps": 20})),
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
    say(f"d: {TRIALS} XGBoost trials, {len(SEEDS)} seeds, {', '.join(VARIANTS)}")
    searches = []
    for seed in SEEDS:
        for variant, spec in VARIANTS.items():
            if bench.wanted(variant):
                searches.append(_search(bench, variant, seed, spec))
                detail(f"d: {variant}, seed {seed}: best {searches[-1].best:.4f}")
    samples = Samples("d")
    for seed in SEEDS:
        # Per seed, because the seed also makes the split: values of different splits do not compare.
        alike = [search for search in searches if search.seed == seed]
        best = min(search.best for search in alike)
        samples.note(f"seed {seed}", "best_value", best)
        for search in alike:
            samples.add(search.variant, search.until(NEAR * best))
    return CaseResult(samples.measurements(), [table(samples)])


def _search(bench: Bench, variant: str, seed: int, spec: TuningSpec) -> Search:
    url = bench.machine.new_database()
    bench.machine.run("ours", [replace(spec, seed=seed).to_json()], url=url, timeout_s=LIMIT_S)
    return Search(variant, seed, _ended(url))


def _ended(url: sqlalchemy.URL) -> list[FrozenTrial]:
    ended = [trial for trial in trials_of(url) if trial.datetime_complete is not None]
    return sorted(ended, key=lambda trial: trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0)


def table(samples: Samples) -> Table:
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
    title = f"d: to within 1 % of the best value found with the same seed, medians over {len(SEEDS)} seeds"
    return Table(title, columns, rows, _verdicts(samples))


def _verdicts(samples: Samples) -> list[str]:
    """Fewer rounds count only where the target was reached as often."""
    base, pruned = samples.median(PLAIN, "rounds"), samples.median(PRUNED, "rounds")
    lost = (samples.mean(PLAIN, "reached") or 0.0) - (samples.mean(PRUNED, "reached") or 0.0)
    return [
        verdict("rounds with pruning, share of without", pruned / base if pruned and base else None, 0.5, at_most=True),
        verdict("seeds that come there without pruning alone", len(SEEDS) * lost, 0, at_most=True),
    ]
