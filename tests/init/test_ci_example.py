"""The workflow that users copy, and the project's own, do what they say with what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from init.local.layout import REPOSITORY
from tests.support.airflow import QUICK_STUDY, DagFolder
from tuning_pipeline.dag.check import check

WORKFLOW = REPOSITORY / "examples" / "ci" / "github-actions.yml"
OWN = REPOSITORY / ".github" / "workflows" / "test.yml"


def test_the_workflow_calls_targets_that_exist() -> None:
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    called = {match[1] for step in job["steps"] if (match := re.match(r"make ([a-z-]+)", step.get("run", "")))}
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert called == {"audit", "licenses", "check-studies", "run", "stop"}
    assert called <= targets


def test_the_projects_own_workflow_runs_what_ci_runs_and_looks_for_known_vulnerabilities() -> None:
    (job,) = yaml.safe_load(OWN.read_text())["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run", "make audit"]


@pytest.mark.parametrize(("file", "n_actions"), [(WORKFLOW, 4), (OWN, 2)], ids=["example", "own"])
def test_a_workflow_trusts_no_tag_and_asks_for_no_right_to_write(file: Path, n_actions: int) -> None:
    text = file.read_text()
    workflow = yaml.safe_load(text)
    (job,) = workflow["jobs"].values()
    assert (workflow["permissions"], job.get("permissions")) == ({"contents": "read"}, None)
    used = re.findall(r"uses: (.*)", text)
    assert len(used) == n_actions
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line) for line in used)


def test_the_studies_that_come_with_it_are_right() -> None:
    lines, code = check(REPOSITORY / "dags" / "studies")
    assert (code, [line for line in lines if not line.startswith("ok: ")]) == (0, [])


def test_a_broken_study_fails_the_check_by_name(tmp_path: Path) -> None:
    folder = DagFolder.create(tmp_path / "dags", good=QUICK_STUDY, bad="trails: 3\n")
    lines, code = check(folder.path / "studies")
    assert code == 1
    assert lines[0] == "ok: good.yaml, DAG tune_good"
    assert "bad.yaml: unknown key 'trails' (did you mean 'trials'?)" in lines[1]


def test_an_empty_folder_is_no_success(tmp_path: Path) -> None:
    assert check(tmp_path)[1] == 2
