"""Each target there is brings all that a study needs, and what one of them needs is no burden to the others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.sdk import DAG

from tests.support.databricks import VOLUME
from tests.support.programs import run_program
from tests.support.rooms import ROOT
from tests.support.studies import study_reader
from tuning_pipeline.study_file.form import possible_fields
from tuning_pipeline.study_file.study_file import StudyFile
from tuning_pipeline.targets.failure_rule import FailureRule, failure_by
from tuning_pipeline.targets.registry import KINDS, kind_of
from tuning_pipeline.targets.target import load_target, target_of

STANDALONE = "objective: quadratic\n"
DATABRICKS = f"""objective: quadratic
target: databricks
databricks: {{files: {VOLUME}, cluster: {{node_type: n}}}}
"""
EXTERNAL = DATABRICKS.replace("{files", "{database: external, files")
RULED = "retune: {rule: drift}\n"
CHAINS = {
    STANDALONE: ["provision_database", "prepare_study", "tune", "export_best_trials"],
    STANDALONE + RULED: [
        "provision_database", "rescore_best_trial", "decide_retune", "prepare_study", "tune", "export_best_trials",
    ],
    DATABRICKS: ["upload_job_files", "prepare_study", "tune", "fetch_results", "export_best_trials"],
    EXTERNAL: ["upload_job_files", "provision_database", "prepare_study", "tune", "export_best_trials"],
    EXTERNAL + RULED: [
        "upload_job_files", "provision_database", "rescore_best_trial", "decide_retune", "prepare_study", "tune",
        "export_best_trials",
    ],
}  # fmt: skip

Study = Callable[[str], StudyFile]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_reader(tmp_path)


@pytest.mark.parametrize("text", CHAINS)
def test_a_target_brings_the_chain_of_its_studies(study: Study, text: str) -> None:
    given = study(text)
    with DAG("d", schedule=None):
        steps = target_of(given).steps(given)
    names = [getattr(step, "operator", step).task_id for step in steps]
    assert names == CHAINS[text]
    assert names[0] == kind_of(given.settings).first_task


@pytest.mark.parametrize("text", CHAINS)
def test_a_target_says_which_fields_its_form_may_have(study: Study, text: str) -> None:
    given = study(text)
    keys = {item.key for item in possible_fields(given.settings)}
    for section in kind_of(given.settings).offered_sections(given.settings):
        assert any(key.startswith(f"{section}.") for key in keys)
    rented = {key for key in keys if key.startswith("databricks.")}
    assert bool(rented) is ("databricks" in text)


def test_the_first_rule_that_fits_makes_the_card() -> None:
    rules = (
        FailureRule("by a word", "do this", words=("no room",)),
        FailureRule("by its code", "do that", codes=("FULL",), retry=True),
    )
    assert failure_by(rules, "OTHER", "all is well", "here") is None
    found = failure_by(rules, "FULL", "There is No Room", "here")
    assert found is not None
    assert (found.what, found.why, found.next, found.where) == ("by a word", "There is No Room", "do this", "here")
    coded = failure_by(rules, "FULL", "", "here")
    assert coded is not None
    assert (coded.what, coded.why, coded.retry) == ("by its code", "FULL", True)


@pytest.mark.parametrize(
    "rule", [rule for kind in KINDS.values() for rule in load_target(kind).failures], ids=lambda r: r.what
)
def test_each_rule_of_a_target_is_found_by_all_that_it_names(rule: FailureRule) -> None:
    tables = [load_target(kind).failures for kind in KINDS.values()]
    rules = next(table for table in tables if rule in table)
    assert rule.codes or rule.words
    assert all(word == word.lower() for word in rule.words)
    for code, message in [*((code, "") for code in rule.codes), *(("", word.upper()) for word in rule.words)]:
        found = failure_by(rules, code, message, "here")
        assert found is not None
        assert (found.what, found.next, found.retry) == (rule.what, rule.next, rule.retry)


def test_only_studies_that_go_to_databricks_load_its_client_library(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from airflow.sdk import DAG
from tuning_pipeline.study_file.study_file import read_study
from tuning_pipeline.targets.target import target_of
for name in sys.argv[1:]:
    study = read_study(Path(name))
    with DAG(study.dag_id, schedule=None):
        target_of(study).steps(study)
    print(sorted({"databricks.sdk", "airflow.providers.databricks.operators.databricks"} & set(sys.modules)))
"""
    for name, text in (("here", STANDALONE), ("there", DATABRICKS)):
        (tmp_path / f"{name}.yaml").write_text(text)
    files = [tmp_path / "here.yaml", tmp_path / "there.yaml"]
    env = {"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT / 'jobs'}", "AIRFLOW_HOME": str(tmp_path)}
    done = run_program([sys.executable, "-c", program, *files], env=env)
    here, there = done.stdout.splitlines()[-2:]
    assert here == "[]"
    assert "airflow.providers.databricks.operators.databricks" in there
