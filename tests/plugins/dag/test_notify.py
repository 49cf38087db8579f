"""Somebody is told when a task fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from optuna_spark.errors import SpecError
from tests.support.airflow import QUICK_STUDY, DagFolder, migrated_home
from tuning_pipeline.dag.notify import load_notifier

NOTIFIER = """
from pathlib import Path
from airflow.sdk import BaseNotifier

class Write(BaseNotifier):
    template_fields = ("text",)

    def __init__(self, text):
        super().__init__()
        self.text = text

    def notify(self, context):
        Path(__file__).with_suffix(".txt").write_text(f"{self.text}: {context['exception']}")

mail = Write("{{ dag.dag_id }} {{ ti.task_id }}")
number = 7
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the notifier of module `who_is_told` wrote."""
    (tmp_path / "who_is_told.py").write_text(NOTIFIER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "who_is_told", raising=False)
    return tmp_path / "who_is_told.txt"


@pytest.mark.slow
def test_a_notifier_gets_the_card_of_a_failed_task(told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrated_home()
    folder = DagFolder.create(tmp_path / "dags", quick=f"{QUICK_STUDY}on_failure: who_is_told:mail\n")
    folder.use(monkeypatch)
    assert folder.test("tune_quick", {"trails": 3})["provision_database"] == "failed"
    text = told.read_text()
    assert text.startswith("tune_quick provision_database: ")
    assert "│ What   trigger conf: unknown key 'trails'" in text


def test_nobody_is_told_by_default() -> None:
    assert load_notifier(None) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mail", "on_failure must be module:name, got 'mail'"),
        ("no_such_module:mail", r"on_failure 'no_such_module:mail' cannot be imported .* put the module into plugins/"),
        ("who_is_told:male", "on_failure 'who_is_told:male' cannot be imported"),
        ("who_is_told:number", "on_failure 'who_is_told:number' must be a notifier or a function, got int"),
    ],
)
def test_a_notifier_that_cannot_work_is_refused(told: Path, name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_notifier(name)


def test_a_wrong_notifier_breaks_its_own_study_only(tmp_path: Path) -> None:
    from tuning_pipeline.dag.studies import read_studies

    folder = DagFolder.create(tmp_path / "dags", good=QUICK_STUDY, bad=f"{QUICK_STUDY}on_failure: no_such:mail\n")
    found = read_studies(folder.path / "studies")
    assert [study.name for study in found.studies] == ["good"]
    assert "dags/studies/bad.yaml: on_failure 'no_such:mail' cannot be imported" in found.errors[0]
