"""optuna-dashboard below another site's path: the pinned version is there, and looks inside as it is known to."""

from __future__ import annotations

import gzip
import json
from importlib import metadata

import optuna
import pytest

from init.local.layout import REPOSITORY
from tuning_pipeline.pages import dashboard
from tuning_pipeline.pages.dashboard import Dashboard, DashboardChangedError, dashboard_files

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


def test_its_page_keeps_the_dashboards_content_policy(page: Dashboard) -> None:
    reply = page.reply("/dashboard/studies/0", "", BASE)
    assert reply.status == 200
    assert "object-src 'none'" in reply.headers["Content-Security-Policy"]
