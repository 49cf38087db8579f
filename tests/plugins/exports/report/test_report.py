"""The report of a study: one page that stands alone, of bounded size."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import optuna
import plotly.graph_objects as go
import pytest
from airflow.sdk import ObjectStoragePath
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_spark.errors import TuningError
from optuna_spark.results.snapshot import fixed_study
from optuna_spark.storage.trial_marks import begun, failed
from tests.support.browser import Browser, browser
from tuning_pipeline.exports.export import export_study
from tuning_pipeline.exports.report.plot_data import objective_views, plain_study, records, thin_out
from tuning_pipeline.exports.report.plots import MAX_LINES, MAX_PARAMS, MAX_POINTS, MAX_STEPS, Section, draw_sections
from tuning_pipeline.exports.report.report import MAX_BEST_TRIALS, render_report
from tuning_pipeline.pages.run_report import read_report

ALL = [
    "History", "Parameter importance", "Slices", "Contour", "Rank", "Distribution of values", "Parallel coordinates",
    "Intermediate values", "Timeline",
]  # fmt: skip
Space = dict[str, BaseDistribution]
NASTY = """<img src=x onerror="alert(1)">&'"""


class Page(HTMLParser):
    """The texts, tags and attributes of a page, scripts and styles aside."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._raw = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._raw = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._raw = ""

    def handle_data(self, data: str) -> None:
        if self._raw:
            self.scripts.append(data)
        elif data.strip():
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -1, 1)
    depth = trial.suggest_int("depth", 1, 12)
    trial.suggest_categorical("grow", ["auto", 7, None])
    for step in range(3):
        trial.report(x * x + depth / (step + 1), step)
    trial.set_user_attr("run_id", "second" if trial.number >= 20 else "first")
    if trial.number == 4:
        raise optuna.TrialPruned
    if trial.number == 5:
        raise ValueError
    return x * x + depth


@pytest.fixture(scope="module")
def study() -> optuna.Study:
    study = optuna.create_study(study_name="wine", sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(objective, n_trials=30, catch=ValueError)
    return study


@pytest.fixture(scope="module")
def two() -> optuna.Study:
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(lambda t: (t.suggest_float("x", 0, 1), t.suggest_float("y", 0, 1)), n_trials=30)
    return study


@pytest.fixture(scope="module")
def large() -> optuna.Study:
    """Ten thousand trials with twenty parameters in each, 500 steps in some; nearly each trial is the best so far."""
    space: Space = {f"p{i}": FloatDistribution(0, 1) for i in range(20)}
    trials = [
        create_trial(
            value=float(10_000 - i if i < 9_990 else i),
            params={name: (i * (k + 1) % 97) / 97 for k, name in enumerate(space)},
            distributions=space,
            intermediate_values={step: float(step) for step in range(500 if i < 400 else 0)},
            user_attrs={"error": "x" * 2_000},
        )
        for i in range(10_000)
    ]
    for number, trial in enumerate(trials):
        trial.number = number
    return fixed_study("large", [optuna.study.StudyDirection.MINIMIZE], None, trials)


def sections(study: optuna.Study, run_key: str = "") -> dict[str, Section]:
    return {section.title: section for section in draw_sections(study, run_key)}


def numbered(values: list[float]) -> list[FrozenTrial]:
    trials = [create_trial(value=value) for value in values]
    for number, trial in enumerate(trials):
        trial.number = number
    return trials


def points(figure: go.Figure) -> int:
    return max(len(trace.y) for trace in figure.data)


# The page


def test_the_page_names_the_study_run_direction_and_best_trial(study: optuna.Study) -> None:
    text = Page(render_report(study, "second")).text
    for expected in ("Study wine", "minimize", "run second", f"{study.best_value:.6g}", f"#{study.best_trial.number}"):
        assert expected in text
    for name in study.best_params:
        assert name in text


def test_the_page_counts_the_trials_of_the_study_and_of_the_run(study: optuna.Study) -> None:
    texts = Page(render_report(study, "second")).texts
    start = texts.index("complete")
    assert texts[start : start + 9] == ["complete", "28", "10", "pruned", "1", "0", "fail", "1", "0"]


def test_the_page_groups_why_trials_of_this_run_failed() -> None:
    study = optuna.create_study()
    study.add_trial(create_trial(value=1.0))
    for number, run in enumerate(["r", "r", "other"]):
        error = f'  File "/tmp/own.py", line 7, in tune\n    fit()\nValueError: odd {number}'
        study.add_trial(create_trial(state=TrialState.FAIL, system_attrs={**begun(run), **failed(error)}))
    texts = Page(render_report(study, "r")).texts
    start = texts.index("Why trials of this run failed")
    assert texts[start + 5 : start + 9] == ["2", "ValueError: odd 1", "own.py, line 7", "2"]
    assert "Why trials of this run failed" not in Page(render_report(study, "third")).texts


@pytest.mark.parametrize(("run", "improved"), [("first", "no"), ("second", "yes")])
def test_the_page_says_whether_the_run_improved_the_study(run: str, improved: str) -> None:
    study = optuna.create_study()
    study.add_trial(create_trial(value=2.0, user_attrs={"run_id": "second"}, system_attrs=begun("first")))
    study.add_trial(create_trial(value=1.0, system_attrs=begun("second")))
    texts = Page(render_report(study, run)).texts
    assert texts[texts.index("improved by this run") - 1] == improved


def test_the_page_loads_nothing(study: optuna.Study) -> None:
    page = Page(render_report(study, "r"))
    assert not [attrs for tag, attrs in page.tags if {"src", "href", "action", "data", "srcset"} & set(attrs)]
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "embed", "form", "base"}
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_plotly_is_in_the_page_once(study: optuna.Study) -> None:
    page = Page(render_report(study, "r"))
    assert len([script for script in page.scripts if len(script) > 1_000_000]) == 1


def test_a_figure_cannot_be_sent_to_plotlys_service(study: optuna.Study) -> None:
    calls = [script for script in Page(render_report(study, "r")).scripts if len(script) < 1_000_000]
    plots = [script for script in calls if "Plotly.newPlot" in script]
    assert plots
    assert all('"showSendToCloud": false' in script for script in plots)


def test_text_of_the_user_is_never_markup() -> None:
    study = optuna.create_study(study_name=NASTY)
    space: Space = {NASTY: CategoricalDistribution([NASTY, "b"])}
    study.add_trials(create_trial(value=float(i), params={NASTY: NASTY}, distributions=space) for i in range(12))
    page = Page(render_report(study, NASTY))
    assert "img" not in {tag for tag, _ in page.tags}
    assert page.texts.count(NASTY) >= 3
    assert all("<img" not in script for script in page.scripts if len(script) < 1_000_000)


def test_a_study_without_complete_trials_has_no_report() -> None:
    with pytest.raises(TuningError, match="no complete trial"):
        render_report(optuna.create_study(), "r")


# The plots


def test_a_study_of_one_direction_gets_all_plots(study: optuna.Study) -> None:
    drawn = sections(study, "second")
    assert list(drawn) == ALL
    assert {title: section.missing for title, section in drawn.items() if section.missing} == {}
    assert all(section.figures for section in drawn.values())


def test_the_timeline_shows_the_trials_of_this_run_only(study: optuna.Study) -> None:
    bars = sections(study, "second")["Timeline"].figures[0].data
    assert sorted(number for bar in bars for number in bar.y) == list(range(20, 30))
    assert sections(study, "a run without trials")["Timeline"].missing == "No trial of this run has a start time."


def test_importances_name_their_evaluator_which_is_the_dashboards(study: optuna.Study) -> None:
    """Both ask PED-ANOVA: the same study must not have two orders of importance."""
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    section = sections(study, "second")["Parameter importance"]
    assert "PED-ANOVA, as in the Optuna dashboard" in section.caption
    bars = section.figures[0].data[0]
    shown = dict(zip(bars.y, bars.x, strict=True))
    assert shown == pytest.approx(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))


def test_the_hypervolume_of_several_directions_only_grows(two: optuna.Study) -> None:
    history = sections(two)["Hypervolume history"].figures[0].data[0]
    assert list(history.x) == list(range(30))
    assert list(history.y) == sorted(history.y)
    assert history.y[-1] > 0


def test_several_directions_get_a_front_and_one_history_each(two: optuna.Study) -> None:
    drawn = sections(two)
    assert list(drawn) == ["Pareto front", "Hypervolume history", *ALL]
    assert len(drawn["History"].figures) == 2
    assert "several directions cannot report" in drawn["Intermediate values"].missing
    assert [title for title, section in drawn.items() if not section.figures] == ["Intermediate values"]


def test_a_maximised_objective_of_several_is_drawn_as_one(two: optuna.Study) -> None:
    best = [f.data[1].y[-1] for f in sections(two)["History"].figures]
    assert best == [min(t.values[0] for t in two.trials), max(t.values[1] for t in two.trials)]


def test_importance_follows_the_direction_of_each_objective(two: optuna.Study) -> None:
    first, second = sections(two)["Parameter importance"].figures
    assert (first.data[0].y[-1], second.data[0].y[-1]) == ("x", "y")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_metric_names_are_shown_where_a_study_has_them() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.set_metric_names(["loss", "accuracy"])
    study.optimize(lambda t: (t.suggest_float("x", 0, 1), 1.0), n_trials=3)
    assert [f.layout.yaxis.title.text for f in sections(study)["History"].figures] == ["loss", "accuracy"]
    assert "first of the Pareto front: accuracy" in Page(render_report(study, "r")).text


def test_four_objectives_have_no_front_to_draw() -> None:
    study = optuna.create_study(directions=["minimize"] * 4)
    study.optimize(lambda t: (t.suggest_float("x", 0, 1), 1, 2, 3), n_trials=3)
    assert sections(study)["Pareto front"].missing == (
        "A Pareto front can be drawn for 2 or 3 values; this study has 4."
    )
    assert len(sections(study)["History"].figures) == 4


@pytest.mark.parametrize(
    ("values", "plot", "sentence"),
    [
        ([1.0, 2.0], "Parameter importance", "Importance needs at least 10 complete trials; there are 2."),
        ([1.0] * 20, "Parameter importance", "All trials have the same value"),
        ([float(i) for i in range(20)], "Parameter importance", "The trials have no parameters."),
        ([1.0], "Contour", "The trials have no parameters."),
        ([1.0], "Slices", "The trials have no parameters."),
        ([1.0], "Parallel coordinates", "The trials have no parameters."),
        ([1.0], "Intermediate values", "No trial reported an intermediate value."),
        ([float("inf")], "History", "No complete trial has a finite value."),
    ],
)
def test_a_plot_that_makes_no_sense_is_a_sentence(values: list[float], plot: str, sentence: str) -> None:
    study = optuna.create_study()
    study.add_trials(create_trial(value=value) for value in values)
    section = sections(study)[plot]
    assert section.figures == ()
    assert sentence in section.missing
    assert section.missing in Page(render_report(study, "r")).text


def test_infinite_values_do_not_spoil_the_plots_of_the_finite_ones() -> None:
    study = optuna.create_study()
    space: Space = {"x": FloatDistribution(0, 1)}
    values = [float("inf"), *map(float, range(12)), float("-inf")]
    study.add_trials(create_trial(value=v, params={"x": 0.5}, distributions=space) for v in values)
    history = sections(study)["History"].figures[0]
    assert list(history.data[0].x) == list(range(1, 13))
    assert sections(study)["Parallel coordinates"].figures


def test_parameters_that_only_some_trials_have_are_drawn() -> None:
    def conditional(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        return x + (trial.suggest_float("y", 0, 1) if x > 0.5 else 0)

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    study.optimize(conditional, n_trials=20)
    assert {title for title, section in sections(study).items() if section.missing} == {"Intermediate values"}


# Long studies


def test_every_plot_of_a_long_study_is_bounded(large: optuna.Study) -> None:
    drawn = sections(large)
    assert {title: section.missing for title, section in drawn.items() if section.missing} == {}
    assert points(drawn["History"].figures[0]) <= MAX_POINTS
    assert all(points(figure) <= MAX_POINTS for figure in drawn["Slices"].figures)
    assert points(drawn["Timeline"].figures[0]) <= MAX_POINTS
    assert points(drawn["Rank"].figures[0]) <= MAX_POINTS
    assert points(drawn["Contour"].figures[0]) <= MAX_LINES
    assert len(drawn["Parallel coordinates"].figures[0].data) <= MAX_LINES + 1
    assert len(drawn["Intermediate values"].figures[0].data) <= MAX_LINES
    assert points(drawn["Intermediate values"].figures[0]) <= MAX_STEPS
    assert len(drawn["Parameter importance"].figures[0].data[0].y) == MAX_PARAMS


def test_the_page_of_a_long_study_is_bounded_and_says_what_it_leaves_out(large: optuna.Study) -> None:
    page = render_report(large, "r", top_k=5_000)
    assert len(page) < 10_000_000
    text = Page(page).text
    assert "at most 1,000 trials, plots of lines at most 150 trials" in text
    assert "the 16 most important of 20" in text
    assert f"The first {MAX_BEST_TRIALS} of 5000 trials." in text
    assert "x" * 2_000 not in page


def test_a_short_study_leaves_nothing_out(study: optuna.Study) -> None:
    assert "To stay readable" not in render_report(study, "r")


def test_the_history_of_a_long_study_ends_at_its_true_best(large: optuna.Study) -> None:
    history = sections(large)["History"].figures[0]
    assert history.data[1].y[-1] == min(t.value for t in large.get_trials(deepcopy=False) if t.value is not None)
    assert list(history.data[0].x) == sorted(history.data[0].x)
    assert history.data[0].x[-1] > 9_900


def test_a_thinned_list_keeps_the_notable_trials_and_spreads_the_rest() -> None:
    trials = numbered([0.0] * 1_000)
    kept = [t.number for t in thin_out(trials, [trials[501], trials[998]], 12)]
    assert len(kept) == 12
    assert {501, 998} <= set(kept)
    assert kept == sorted(kept)
    assert max(b - a for a, b in itertools.pairwise(kept)) <= 101


def test_more_notable_trials_than_fit_are_thinned_too() -> None:
    trials = numbered([0.0] * 100)
    assert len(thin_out(trials, trials[:50], 10)) == 10


def test_records_are_the_steps_of_the_best_value() -> None:
    study = optuna.create_study(direction="maximize")
    study.add_trials(numbered([1.0, 0.5, 2.0, 2.0, 3.0]))
    study.add_trial(create_trial(state=TrialState.FAIL))
    assert [t.number for t in records(objective_views(plain_study(study, 10))[0])] == [0, 2, 4]


# A real browser


@pytest.fixture(scope="module")
def report(study: optuna.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(study, "second"))
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser("file://") as found:
        yield found


def drawn_plots(chromium: Browser, page: Path) -> int:
    chromium.open(str(page))
    chromium.until(lambda: chromium.driver.execute_script("return document.readyState") == "complete", "the page")
    return len(chromium.driver.find_elements("css selector", ".js-plotly-plot .main-svg:first-child"))


def test_chromium_draws_every_plot_without_an_error(study: optuna.Study, report: Path, chromium: Browser) -> None:
    figures = sum(len(section.figures) for section in draw_sections(study, "second"))
    assert drawn_plots(chromium, report) == figures
    assert chromium.errors() == []


def test_reports_may_share_one_script(study: optuna.Study, tmp_path: Path, chromium: Browser) -> None:
    for run in ("first", "second"):
        export_study(study, tmp_path, run, shared_script=True)
    reports = [tmp_path / "wine" / run / "report.html" for run in ("first", "second", "latest")]
    assert [path.stat().st_size < 1_000_000 for path in reports] == [True] * 3
    script = next(tmp_path.glob("plotly-*.min.js"))
    assert script.stat().st_size > 1_000_000
    for path in reports:
        assert drawn_plots(chromium, path) > 5
    assert chromium.errors() == []
    alone = read_report(ObjectStoragePath(str(reports[0].parent)))
    assert alone is not None
    assert b'src="../' not in alone
    assert script.read_bytes() in alone


def test_a_report_is_one_file_unless_the_study_asks_for_a_shared_script(study: optuna.Study, tmp_path: Path) -> None:
    export_study(study, tmp_path, "r")
    assert list(tmp_path.glob("*.js")) == []
    assert "<script src" not in (tmp_path / "wine" / "r" / "report.html").read_text()


def test_a_report_is_dark_where_the_reader_likes_it_dark(report: Path, chromium: Browser) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        drawn_plots(chromium, report)
        chromium.picture(f"report-{scheme}")
        seen[scheme] = [brightness(chromium, "body", "backgroundColor"), brightness(chromium, "body", "color")]
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert seen["light"][0] > 200 > 100 > seen["light"][1]
    assert seen["dark"][0] < 60 < 200 < seen["dark"][1]


def brightness(chromium: Browser, selector: str, of: str) -> float:
    color = chromium.driver.execute_script(f"return getComputedStyle(document.querySelector('{selector}')).{of}")
    red, green, blue = map(int, re.findall(r"\d+", color)[:3])
    return (red + green + blue) / 3


def test_a_report_fits_a_phone(report: Path, chromium: Browser) -> None:
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    chromium.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    drawn_plots(chromium, report)
    chromium.picture("report-phone")
    widest = chromium.driver.execute_script("return document.documentElement.scrollWidth")
    plot = chromium.driver.execute_script(
        "return document.querySelector('.js-plotly-plot').getBoundingClientRect().width"
    )
    chromium.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert widest <= 390, "the page itself does not scroll sideways"
    assert plot >= 600, "a plot keeps a width that can be read, and its section scrolls"
