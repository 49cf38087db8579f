"""The figures of docs/benchmarks.md and of README.md are those of the benchmark's result files."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator

import pytest

from benchmarks.workload import costless_s, ideal_s
from init.local.layout import REPOSITORY

PAGE = (REPOSITORY / "docs" / "benchmarks.md").read_text(encoding="utf-8")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SLOTS = 32
OURS, OURS_BY_DATABASE = "ours, rdd", "ours, rdd, coordination database"
FLOOR, PROCESSES, EXAMPLES = "floor (Spark, nothing to ask)", "Optuna processes", "reference, rdd"
STOPPED = ("Ray Tune, OptunaSearch", "MlflowSparkStudy")
ALONE, RUSTUNA = "in-memory sampler alone", "Rustuna alone"
QUANTILES = ("hundredth", "tenth", "median")
NOT_YET = "This has not been measured yet."

Numbers = Callable[[str, str, str], float]


def numbers(file: str) -> Numbers:
    """The values of a result file by case, contender and metric."""
    rows = json.loads((REPOSITORY / "benchmarks" / "results" / file).read_text(encoding="utf-8"))
    values = {(row["case"], row["contender"], row["metric"]): row["value"] for row in rows}
    return lambda case, contender, metric: float(values[case, contender, metric])


def measured(case: str, contender: str) -> bool:
    """Whether latest.json holds figures of a contender."""
    rows = json.loads((REPOSITORY / "benchmarks" / "results" / "latest.json").read_text(encoding="utf-8"))
    return any((row["case"], row["contender"]) == (case, contender) for row in rows)


GOT, ON_ONE_CORE = numbers("latest.json"), numbers("one-core.json")


def quotient(case: str, metric: str, contender: str, other: str, got: Numbers = GOT) -> float:
    return got(case, contender, metric) / got(case, other, metric)


def machine() -> Iterator[str]:
    rows = json.loads((REPOSITORY / "benchmarks" / "results" / "latest.json").read_text(encoding="utf-8"))
    facts = {row["metric"]: row["value"] for row in rows if (row["case"], row["contender"]) == ("a/128", "machine")}
    yield f"{facts['cpus']} cores, {facts['memory_gib']} GiB of memory"
    yield f"Python {facts['python']};"
    yield f"| Date | {facts['measured_at'][:10]} |"


def busy_slots() -> Iterator[str]:
    ideal = GOT("a/128", "ideal", "seconds")
    names = {
        "this, `rdd`, the driver coordinates": OURS,
        "this, `joblib`, the driver coordinates": "ours, joblib",
        "this, `dataframe`, the driver coordinates": "ours, dataframe",
        "this, `rdd`, the database coordinates": OURS_BY_DATABASE,
        "the same sleeps as plain Spark tasks, without a study": FLOOR,
        "32 Optuna processes on MySQL": PROCESSES,
        "NVIDIA's examples, `rdd`": EXAMPLES,
    }
    for name, contender in names.items():
        seconds = GOT("a/128", contender, "seconds")
        yield f"| {name} | {seconds:.1f} | {seconds / ideal:.1f} |"
    for name, contender in zip(("Ray Tune with OptunaSearch", "MlflowSparkStudy"), STOPPED, strict=True):
        limit = GOT("a/128", contender, "stopped_after_s")
        yield f"| {name} | stopped after {limit:.0f} | {limit / ideal:.0f} |"
    costless = costless_s(128, SLOTS)
    ours, examples = GOT("a/128", OURS, "seconds"), GOT("a/128", EXAMPLES, "seconds")
    yield f"The ideal time is {ideal:.1f} s."
    yield f"would take {costless:.1f} s. This one takes {ours - costless:.1f} s more,"
    yield f"the examples {examples - costless:.1f} s more"
    yield f"comes to {costless / ours:.2f} of an engine that costs nothing, the examples to {costless / examples:.2f}"
    whole = [quotient("a/128", "whole_s", OURS, other) for other in (FLOOR, EXAMPLES)]
    yield f"this takes {whole[0]:.2f} of the time of plain Spark tasks, and {whole[1]:.2f} of the examples'"
    faster = quotient("a/128", "seconds", EXAMPLES, OURS), quotient("a/128", "seconds", EXAMPLES, OURS, ON_ONE_CORE)
    yield f"It is {faster[0]:.1f} times as fast as the examples on two cores, and {faster[1]:.1f} times on one of them"


def many_trials() -> Iterator[str]:
    names = {
        "this, `rdd`, the driver coordinates": OURS,
        "this, `rdd`, the database coordinates": OURS_BY_DATABASE,
        "the same sleeps as plain Spark tasks": FLOOR,
        "32 Optuna processes on MySQL": PROCESSES,
        "NVIDIA's examples, `rdd`": EXAMPLES,
    }
    for name, contender in names.items():
        share, finished = GOT("a/1280", contender, "utilisation"), GOT("a/1280", contender, "finished")
        yield f"| {name} | {share:.1%} | {finished:.0f} |".replace("%", " %")
    yield f"would reach {ideal_s(1280, SLOTS) / costless_s(1280, SLOTS):.1%}".replace("%", " %")


def trial_cost() -> Iterator[str]:
    cases = ("b/fresh", "b/after 1000", "b/after 10000")
    names = {
        "this, `rdd`, the driver coordinates": OURS,
        "this, `rdd`, the database coordinates": OURS_BY_DATABASE,
        "Optuna's sampler alone, in one process, in memory": ALONE,
    }
    names |= {"Rustuna's sampler alone, in one process, in memory": RUSTUNA} if measured(cases[0], RUSTUNA) else {}
    for name, contender in names.items():
        yield f"| {name} | " + " | ".join(f"{GOT(case, contender, 'wall_ms'):.1f}" for case in cases) + " |"
        if contender != OURS_BY_DATABASE:
            yield f"| {name} | " + " | ".join(f"{GOT(case, contender, 'cpu_ms'):.1f}" for case in cases) + " |"
    yield f"| NVIDIA's examples, `rdd` | {GOT('b/fresh', EXAMPLES, 'wall_ms'):.1f} | | |"
    shares = [quotient("b/fresh", "wall_ms", OURS, other) for other in (EXAMPLES, ALONE)]
    yield f"costs {shares[0]:.2f} of what it costs with the examples, and {shares[1]:.2f} of what Optuna's sampler"
    longer = GOT("b/after 10000", OURS, "wall_ms") / GOT("b/after 1000", OURS, "wall_ms")
    yield f"it costs {longer:.2f} of what it costs after 1,000"
    goals = [round(goal / alone, 2) for goal, alone in ((2.5, 5.7), (8.0, 67.8))]
    yield f"and {goals[0]} and {goals[1]} of what Optuna's sampler alone takes"


def speedup() -> Iterator[str]:
    for name, contender in (("this, `rdd`", OURS), ("NVIDIA's examples, `joblib`", "reference, joblib")):
        pair = (GOT("c", contender, metric) for metric in ("speedup", "speedup_with_start"))
        yield f"| {name} | " + " | ".join(f"{value:.2f}" for value in pair) + " |"


def search() -> Iterator[str]:
    for name in ("ExtrapolationPruner", "MedianPruner"):
        rounds = quotient("d/pruning", "rounds_in_all", name, "no pruning")
        yield f"`{name}` | {rounds:.2f} | {GOT('d/pruning', name, 'reached_in_all'):.0f} |"
    yield f"| none | 1 | {GOT('d/pruning', 'no pruning', 'reached_in_all'):.0f} |"


def long_searches() -> Iterator[str]:
    """For each size, function and contender a row: hundredth, tenth and median, each with its ratio, and CPU ms."""
    searched = ("bowl, 2 dimensions", "bowl, 7 dimensions", "ridge, diabetes table")
    ran = [f"d/{size} {name}" for size in (5000, 20000) for name in searched if measured(f"d/{size} {name}", "ours")]
    if not ran:
        yield f"(`make bench CASES=d/5000,d/20000 SEEDS=10`) {NOT_YET}"
    if ran:
        same = min(GOT(case, "ours", "of_optunas") for case in ran)
        yield f"In each of these searches at least {same:.2f} of the proposals are the same."
    for case in ran:
        contenders = [name for name in ("ours", "Optuna", "Rustuna") if measured(case, name)]
        base = "Optuna" if "Optuna" in contenders else "Rustuna"
        for contender in contenders:
            cells = [f"{GOT(case, contender, q):.3g} ({quotient(case, q, contender, base):.2f})" for q in QUANTILES]
            size, _, name = case.removeprefix("d/").partition(" ")
            cells.append(f"{GOT(case, contender, 'cpu_ms'):.1f}")
            yield f"| {int(size):,} | {name} | {contender} | " + " | ".join(cells) + " |"


def pruners() -> Iterator[str]:
    names = [name for name in ("MedianPruner", "PercentilePruner, 25") if measured("d/pruners", name)]
    if not names:
        yield f"(`make bench CASES=d/pruners`) {NOT_YET}"
    for name in names:
        shares = [GOT("d/pruners", name, metric) for metric in ("pruned", "pruned_by_optunas", "differ")]
        yield f"| `{name}` | " + " | ".join(f"{share:.1%}".replace("%", " %") for share in shares) + " |"


def stages() -> Iterator[str]:
    yield f"everything installed and running: {GOT('e', 'make run', 'whole'):.1f} s in all"
    names = {
        "Airflow starts": "airflow starts",
        "`provision_database`": "provision_database",
        "`tune`: spark-submit starts": "tune: spark-submit starts",
        "`tune`: Spark session": "tune: Spark session",
        "`tune`: workers and trials": "tune: workers and trials",
        "`tune`: Spark stops": "tune: Spark stops",
        "`export_best_trials`": "export_best_trials",
    }
    for name, metric in names.items():
        yield f"| {name} | {GOT('e', 'make run', metric):.1f} |"


def memory() -> Iterator[str]:
    for workers in (1, 2, 4):
        pair = (GOT("f", f"{kind}, {workers}", "worker_peak_mb") for kind in ("rdd", "dataframe"))
        yield f"| {workers} | " + " | ".join(f"{value:.0f} MB" for value in pair) + " |"


def in_short() -> Iterator[str]:
    """The README's figures."""
    ideal = GOT("a/128", "ideal", "seconds")
    ours, processes, examples = (GOT("a/128", c, "seconds") / ideal for c in (OURS, PROCESSES, EXAMPLES))
    stopped = min(GOT("a/128", contender, "stopped_after_s") for contender in STOPPED) / ideal
    yield f"128 trials of 1 to 3 s on 32 slots took {ours:.1f} times the ideal time"
    yield f"MySQL took {processes:.1f} times, the way of NVIDIA's"
    yield f"examples {examples:.1f} times. Ray Tune and MlflowSparkStudy were stopped at {stopped:.0f} times"
    finished = [GOT("a/1280", contender, "finished") for contender in (OURS, PROCESSES)]
    yield f"it ran {finished[0]:,.0f}. 32 Optuna processes with `MaxTrialsCallback` ran {finished[1]:,.0f}"
    times = [GOT(f"b/after {n}", contender, "wall_ms") for contender in (OURS, ALONE) for n in (1000, 10000)]
    yield f"takes {times[0]:.1f} ms after 1,000 trials and {times[1]:.1f} ms after 10,000"
    yield f"takes {times[2]:.1f} ms and {times[3]:.0f} ms"
    pruned = [quotient("d/pruning", "rounds_in_all", n, "no pruning") for n in ("ExtrapolationPruner", "MedianPruner")]
    lost = GOT("d/pruning", "no pruning", "reached_in_all") - GOT("d/pruning", "MedianPruner", "reached_in_all")
    yield f"`ExtrapolationPruner` needs {pruned[0]:.2f} of the boosting rounds"
    yield f"`MedianPruner` needs {pruned[1]:.2f}, and {lost:.0f} of 10 seeds do not get there"


def words(text: str) -> str:
    """A text without its line breaks."""
    return re.sub(r"\s+", " ", text)


PARTS = (machine, busy_slots, many_trials, trial_cost, speedup, search, long_searches, pruners, stages, memory)


@pytest.mark.parametrize("part", PARTS, ids=[part.__name__ for part in PARTS])
def test_the_pages_figures_are_those_of_the_results(part: Callable[[], Iterator[str]]) -> None:
    assert [line for line in part() if line not in words(PAGE)] == []


def test_the_readmes_figures_are_those_of_the_results() -> None:
    assert [line for line in in_short() if line not in words(README)] == []


def test_every_table_of_figures_is_compared() -> None:
    lines = PAGE.splitlines()
    rows = [line for line, below in itertools.pairwise(lines) if line[:1] == "|" and below[:4] != "| --"]
    compared = [line for part in PARTS for line in part()]
    assert [row for row in rows if re.search(r"\d", row) and not any(line in row for line in compared)] == []


def test_the_readme_is_one_screen() -> None:
    assert len(README.split()) <= 900
