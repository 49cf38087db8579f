"""optuna-dashboard below another site's path: the pinned version is there, and looks inside as it is known to."""

from __future__ import annotations

import datetime
import gzip
import json
from importlib import metadata

import optuna
import pytest

from init.local.layout import REPOSITORY
from optuna_spark.storage.trial_marks import begun, ended
from tuning_pipeline.pages import dashboard
from tuning_pipeline.pages.dashboard import Dashboard, DashboardChangedError, dashboard_files
from tuning_pipeline.pages.shown_storage import ReadOnlyError, ShownStorage

BASE = "/airflow/tuning/optuna"


@pytest.fixture(scope="module")
def page() -> Dashboard:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(study_name="seen", storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    return Dashboard(storage)


def test_the_installed_version_is_the_known_and_the_pinned_one() -> None:
    pins = (REPOSITORY / "requirements" / "airflow.in").read_text().splitlines()
    assert f"optuna-dashboard=={dashboard.VERSION}" in pins
    assert metadata.version("optuna-dashboard") == dashboard.VERSION


def test_every_address_the_script_names_lies_below_the_path() -> None:
    html, script = dashboard_files(BASE)
    text = gzip.decompress(script).decode()
    assert f'src="{BASE}/static/bundle.js"'.encode() in html
    assert f'url_prefix:"{BASE}"+"/dashboard"' in text
    assert text.count(f'"{BASE}"+`/csv/') == 2


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "VERSION", "0.20.0")
    with pytest.raises(DashboardChangedError, match=r"optuna-dashboard 0\.20\.0 is needed inside Airflow"):
        dashboard_files("/another")


def test_a_changed_inside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "_PAGE_PLACES", (("not there", "", 1),))
    with pytest.raises(DashboardChangedError, match="'not there' is there 0 times, not 1"):
        dashboard_files("/yet-another")


def test_it_shows_the_studies(page: Dashboard) -> None:
    reply = page.reply("/api/studies", "", BASE)
    assert [s["study_name"] for s in json.loads(reply.body)["study_summaries"]] == ["seen"]
    detail = json.loads(page.reply("/api/studies/0", "after=0", BASE).body)
    assert len(detail["trials"]) == 3
    assert page.reply("/csv/0", "", BASE).body.count(b"COMPLETE") == 3
    assert page.reply("/nothing", "", BASE).status == 404


def test_it_shows_the_runs_notes_and_exact_times() -> None:
    start = datetime.datetime(2026, 3, 1, 12, 0, 0, 250_000)
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(study_name="noted", storage=storage)
    marks = ended(begun("one", "w:1", start), start + datetime.timedelta(seconds=0.5))
    study.add_trial(optuna.create_trial(value=1.0, user_attrs={"worker": "own"}, system_attrs=marks))
    page = Dashboard(storage)
    (trial,) = json.loads(page.reply("/api/studies/0", "after=0", BASE).body)["trials"]
    shown = {attr["key"]: attr["value"] for attr in trial["user_attrs"]}
    assert shown == {"run_id": "one", "optuna_spark:worker": "w:1", "worker": "own"}
    assert (trial["datetime_start"], trial["datetime_complete"]) == (
        "2026-03-01T12:00:00.250000",
        "2026-03-01T12:00:00.750000",
    )
    assert b"UserAttribute run_id" in page.reply("/csv/0", "", BASE).body
    assert study.trials[0].user_attrs == {"worker": "own"}


def test_the_dashboards_storage_changes_nothing() -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(study_name="kept", storage=storage).add_trial(optuna.create_trial(value=1.0))
    shown = ShownStorage(storage)
    with pytest.raises(ReadOnlyError):
        optuna.delete_study(study_name="kept", storage=shown)
    with pytest.raises(ReadOnlyError):
        optuna.load_study(study_name="kept", storage=shown).ask()
    assert len(optuna.load_study(study_name="kept", storage=storage).trials) == 1


def test_its_page_keeps_the_dashboards_content_policy(page: Dashboard) -> None:
    reply = page.reply("/dashboard/studies/0", "", BASE)
    assert reply.status == 200
    assert "object-src 'none'" in reply.headers["Content-Security-Policy"]
