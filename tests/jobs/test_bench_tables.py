"""The benchmark's tables and verdicts, from measurements made up here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.__main__ import chosen
from benchmarks.cases import long_search, trial_cost
from benchmarks.cases.bench import Bench
from benchmarks.cases.lanes import in_lanes
from benchmarks.luck import spread
from benchmarks.machine import Machine
from benchmarks.results import Samples, costless_verdict
from init.local.mysql import MysqlServer


def searched(seeds: int, **values: float) -> Samples:
    """A long search of one function: each sampler's three quantiles are the same."""
    samples = Samples("d/5000 bowl, 2 dimensions")
    for seed in range(seeds):
        for name, value in values.items():
            reached = value * (1 + seed / 100)
            samples.add(name, {"hundredth": reached, "tenth": reached, "median": reached, "cpu_ms": 2.0})
    return samples


def test_a_long_search_is_compared_with_optunas_own() -> None:
    table = long_search.table([searched(10, ours=1.1, Optuna=1.0, Rustuna=2.0)], 5000)
    assert [row[2] for row in table.rows] == ["1.10x", "1.00x", "2.00x"]
    assert table.verdicts[0].startswith("not measured: bowl, 2 dimensions: share of the 64 proposals")
    assert all(line.startswith("reached: bowl, 2 dimensions: ") for line in table.verdicts[1:])
    assert all("times that of Optuna's: 1.1 (target <= 1.2)" in line for line in table.verdicts[1:])
    assert "; the target is for" not in table.text()


def test_a_long_search_is_compared_with_rustunas_where_optunas_did_not_run() -> None:
    table = long_search.table([searched(10, ours=1.5, Rustuna=1.0)], 20_000)
    assert [line.partition(" (")[0] for line in table.verdicts[1:]] == [
        f"MISSED: bowl, 2 dimensions: {words}, times that of Rustuna's: 1.5"
        for words in ("best hundredth", "best tenth", "median")
    ]


def test_a_few_seeds_do_not_tell_whether_the_target_is_reached() -> None:
    table = long_search.table([searched(3, ours=1.0, Optuna=1.0)], 5000)
    assert all(line.endswith("; the target is for SEEDS=10 or more") for line in table.verdicts[1:])


def test_values_of_the_table_count_from_the_best_that_was_found() -> None:
    jobs = [long_search.Job(1, "ridge, diabetes table", sampler) for sampler in long_search.SAMPLERS[:2]]
    found = [{"hundredth": 54.0 + n, "tenth": 55.0, "median": 56.0, "best": 53.0, "cpu_ms": 1.0} for n in range(2)]
    samples = long_search.samples_of("ridge, diabetes table", 5000, jobs, found)
    assert [samples.median(name, "hundredth") for name in ("ours", "Optuna")] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("trials", "only", "runs"),
    [
        (5000, (), ["ours", "Optuna", "Rustuna"]),
        (20_000, (), ["ours", "Rustuna"]),  # Optuna's would take days
        (20_000, ("ours", "Optuna"), ["ours", "Optuna"]),
        (5000, ("Rustuna",), ["Rustuna"]),
    ],
)
def test_optunas_sampler_runs_the_longest_searches_only_if_it_is_named(
    trials: int, only: tuple[str, ...], runs: Sequence[str], tmp_path: Path
) -> None:
    bench = Bench(machine(tmp_path), 1, only)
    assert [s.name for s in long_search.SAMPLERS if long_search.takes_part(bench, s, trials)] == runs


def test_jobs_keep_their_order_and_have_a_folder_of_their_own(tmp_path: Path) -> None:
    folders = in_lanes(machine(tmp_path), range(20), lambda lane, job: (job, lane.folder))
    assert [job for job, _ in folders] == list(range(20))
    assert all(folder.is_dir() and folder.parent == tmp_path for _, folder in folders)


def machine(folder: Path) -> Machine:
    """A machine whose server is not started."""
    return Machine(folder, MysqlServer.__new__(MysqlServer), folder)


@pytest.mark.parametrize(("runs", "few"), [(6, True), (7, False)])
def test_how_near_to_an_engine_that_costs_nothing_takes_seven_runs(runs: int, few: bool) -> None:
    samples = Samples("a/128")
    for run in range(runs):
        samples.add("ours, rdd", {"of_costless": 0.9 + run / 100})
    line = costless_verdict(samples, "ours, rdd")
    assert line.startswith("MISSED: ours, rdd, share of an engine that costs nothing")
    assert f"median of {runs} runs" in line
    assert line.endswith("; the target is for RUNS=7 or more") == few


def test_the_drivers_time_is_judged_beside_optunas_sampler_in_the_same_run() -> None:
    cases = {name: Samples(name) for name in ("b/fresh", "b/after 1000", "b/after 10000")}
    cases["b/fresh"].add(trial_cost.SAMPLER, {"wall_ms": 12.0, "cpu_ms": 11.4})
    cases["b/fresh"].add(trial_cost.OURS, {"wall_ms": 4.0, "cpu_ms": 4.0})
    lines = trial_cost.table(list(cases.values())).verdicts
    assert "reached: b/fresh: CPU of a trial in the driver, times that of Optuna's sampler alone: 0.351" in lines[2]
    assert "(target <= 0.439)" in lines[2]
    assert "MISSED: b/fresh: CPU of a trial in the driver, ms: 4 (target <= 2.5)" in lines[3]
    assert lines[4].startswith("not measured: b/after 10000")


def test_luck_is_a_range_around_the_ratio_and_unknown_for_one_seed() -> None:
    from numpy import median

    assert spread([1.0], [2.0], median) == ""
    words = spread([1.0, 1.1, 1.2, 1.3], [2.0, 2.1, 2.2, 2.3], median).split()
    low, high = float(words[4]), float(words[6].rstrip(","))
    assert 0.45 < low < 1.15 / 2.15 < high < 0.6


def test_case_d_is_chosen_in_whole_or_in_parts() -> None:
    assert chosen("d") == ["d/pruning", "d/pruners", "d/5000", "d/20000"]
    assert chosen("d/5000,c") == ["c", "d/5000"]
    with pytest.raises(ValueError, match="CASES must be some of"):
        chosen("d/history")
