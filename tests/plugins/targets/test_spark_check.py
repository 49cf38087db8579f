"""`make check-studies` imports own objectives as a worker would, in the real Spark environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from init.local.layout import REPOSITORY
from tests.support.programs import run_program
from tests.support.servers import spark_environment
from tuning_pipeline.dag.check import check, main
from tuning_pipeline.targets import spark_check

OBJECTIVE = "def objective(trial, context):\n    return 1.0\n"
STUDY = "objective: mine:objective\n"


def spark_python() -> Path:
    return spark_environment() / "bin" / "python"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "dags" / "studies"
    found.mkdir(parents=True)
    return found


def lines(folder: Path, code: str, text: str = STUDY, name: str = "mine") -> list[str]:
    (folder / f"{name}.py").write_text(code)
    (folder / "mine.yaml").write_text(text)
    said, _ = check(folder, spark_python())
    return said


def test_an_objective_that_can_be_imported_is_right(folder: Path) -> None:
    code = f"import optuna, numpy, xgboost\nprint('noise')\n{OBJECTIVE}"
    assert lines(folder, code) == ["ok: mine.yaml, DAG tune_mine"]


BROKEN = {
    "1 / 0\n" + OBJECTIVE: "objective: module 'mine' cannot be imported: ZeroDivisionError: division by zero",
    "import not_there\n" + OBJECTIVE: "objective: module 'mine' needs 'not_there', which is not installed",
    "\n__import__('helpers')\n" + OBJECTIVE: "objective: module 'mine' needs 'helpers', which is not installed: install"
    " it where the trials run, or import it with an import statement from beside the study file, or name its file in"
    " spark.py_files (mine.py, line 2)",
    "def objective(): return 1.0\n": "objective: 'mine:objective' must be callable as function(trial)",
    "objective = 3\n": "objective: 'mine:objective' must be a function, got int",
    "import os\nos._exit(7)\n" + OBJECTIVE: "objective: importing mine:objective ended Python with code 7",
    "raise SystemExit('enough')\n" + OBJECTIVE: "objective: importing mine:objective ended Python with code 1: enough",
}


@pytest.mark.parametrize(("code", "sentence"), BROKEN.items(), ids=BROKEN.values())
def test_what_only_an_import_shows_is_told_with_its_file(folder: Path, code: str, sentence: str) -> None:
    (folder / "helpers.py").write_text("")  # beside it, but no import statement names it
    (said,) = lines(folder, code)
    assert said.startswith(f"error: dags/studies/mine.yaml: {sentence}")


SAMPLERS = {
    "sampler: 'mine:MySampler'": "ok: mine.yaml, DAG tune_mine",
    "sampler: {name: 'mine:MySampler', args: {rate: 2}}": "ok: mine.yaml, DAG tune_mine",
    "pruner: 'mine:MyPruner'": "ok: mine.yaml, DAG tune_mine",
    "sampler: 'no_such_package.samplers:MySampler'": "sampler: there is no package 'no_such_package' where the driver"
    " runs: install it there",
    "sampler: 'optuna.samplers:NoSampler'": "sampler: module 'optuna.samplers' has no class 'NoSampler'",
    "sampler: {name: 'mine:MySampler', args: {rat: 2}}": "sampler.args: unknown key 'rat' (did you mean 'rate'?)",
    "sampler: {name: PartialFixedSampler, args: {fixed_params: {x: 1}, base_sampler: {name: 'mine:None_'}}}": "sampler:"
    " module 'mine' has no class 'None_'; its samplers: MySampler",
    "sampler: 'mine:objective'": "sampler: 'mine:objective' must be a class derived from optuna's BaseSampler",
    "pruner: 'mine:MySampler'": "pruner: 'mine:MySampler' must be a class derived from optuna's BasePruner",
}
CLASSES = """
import optuna
class MySampler(optuna.samplers.RandomSampler):
    def __init__(self, rate=1):
        super().__init__()
class MyPruner(optuna.pruners.BasePruner):
    def prune(self, study, trial): return False
"""


@pytest.mark.parametrize(("text", "sentence"), SAMPLERS.items())
def test_samplers_and_pruners_of_other_packages_are_imported_too(folder: Path, text: str, sentence: str) -> None:
    (said,) = lines(folder, CLASSES + OBJECTIVE, f"{STUDY}{text}\n")
    assert sentence in said


def test_a_broken_one_leaves_the_others_right_and_the_code_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "fine.yaml").write_text("objective: quadratic\n")
    lines(folder, "1 / 0\n" + OBJECTIVE)
    assert main([str(folder), str(spark_python())]) == 1
    assert "ok: fine.yaml" in capsys.readouterr().out
    assert main([str(folder)]) == 0  # nothing is imported where no Python is named


def test_a_package_is_imported_from_the_zip_that_workers_get(folder: Path) -> None:
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text("")
    (folder / "pack" / "code.py").write_text("from pack import words\n" + OBJECTIVE)
    text = "objective: pack.code:objective\n"
    assert "cannot import name 'words' from 'pack'" in lines(folder, "", text)[0]
    (folder / "pack" / "words.py").write_text("")
    assert lines(folder, "", text) == ["ok: mine.yaml, DAG tune_mine"]


def test_what_the_module_imports_from_beside_it_is_there_and_is_told(folder: Path) -> None:
    (folder / "helpers.py").write_text("def load():\n    import features.load\n")
    (folder / "features").mkdir()  # a package without __init__.py
    (folder / "features" / "load.py").write_text("from importlib.resources import files\n")
    (folder / "unused.py").write_text("raise SystemExit\n")
    assert lines(folder, "import helpers\nhelpers.load()\n" + OBJECTIVE) == [
        "ok: mine.yaml, DAG tune_mine, sends mine.py (1 kB), helpers.py (1 kB), features (1 file, 1 kB)"
    ]


def test_an_import_that_stops_is_told_with_its_line(folder: Path) -> None:
    (folder / "features.py").write_text("import os\n\nif os:\n    get_ipython().system('ls')\n")
    (said,) = lines(folder, "import features\n" + OBJECTIVE)
    assert said.endswith("NameError: name 'get_ipython' is not defined (features.py, line 4)")


def test_further_modules_are_those_in_py_files(folder: Path) -> None:
    (folder / "helpers.py").write_text("")
    text = f"{STUDY}spark: {{py_files: [helpers.py]}}\n"
    assert lines(folder, "import helpers\n" + OBJECTIVE, text) == ["ok: mine.yaml, DAG tune_mine"]


@pytest.mark.parametrize(
    "elsewhere",
    [
        "target: databricks\ndatabricks: {files: /Volumes/a/b/c, cluster: {node_type: n}}",
        "spark: {archives: ['environment.tar.gz#environment']}",
        "spark: {py_files: ['s3://bucket/helpers.py']}",
    ],
)
def test_an_objective_with_packages_that_are_not_here_is_left_to_its_workers(folder: Path, elsewhere: str) -> None:
    (said,) = lines(folder, "import not_there\n" + OBJECTIVE, f"{STUDY}{elsewhere}\n")
    assert said.startswith("ok: mine.yaml, DAG tune_mine (objective not imported: ")


def test_an_import_without_end_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_check, "IMPORT_S", 5.0)
    (said,) = lines(folder, "import time\ntime.sleep(600)\n" + OBJECTIVE)
    assert said.endswith("objective: importing mine:objective took longer than 5 s")


def test_user_code_gets_no_secret_of_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TUNING_DB", "mysql://tuning:secret@host/db")
    code = f"import os\nassert not [name for name in os.environ if 'AIRFLOW' in name]\n{OBJECTIVE}"
    assert lines(folder, code) == ["ok: mine.yaml, DAG tune_mine"]


def test_make_check_studies_works_in_a_new_checkout(tmp_path: Path) -> None:
    """What make runs after its set-up, with the paths that it has there, before Airflow has a folder of its own."""
    for name in ("Makefile", "dags", "init", "jobs", "plugins"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / ".state").mkdir()
    (tmp_path / ".state" / "envs").symlink_to(spark_environment().parent)
    recipe = run_program(["make", "--dry-run", "check-studies"], cwd=tmp_path).stdout
    commands = recipe.split("-m init.local setup\n")[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    done = run_program(["bash", "-euc", commands], cwd=tmp_path, env=env)
    assert "ok: diabetes.yaml, DAG tune_diabetes\n" in done.stdout


def test_a_python_that_is_not_there_is_named(folder: Path) -> None:
    (folder / "fine.yaml").write_text("objective: quadratic\n")
    assert check(folder, Path("not/there")) == (
        ["error: there is no program not/there: name the Python of the Spark environment"],
        2,
    )
