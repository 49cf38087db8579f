"""What travels with an objective: modules beside the study file that it imports, within bounds, nothing else."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.studies import study_reader
from tuning_pipeline.study_file import own_code as own_code_module
from tuning_pipeline.study_file.own_code import own_code, shown_code
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError
from tuning_pipeline.targets.package import pack_module

Study = Callable[[str], StudyFile]
OBJECTIVE = "def objective(trial):\n    return 1.0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "dags" / "studies"
    found.mkdir(parents=True)
    return found


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_reader(tmp_path)


def write(folder: Path, **files: str) -> None:
    """Modules by name: pack__code is pack/code.py, and pack__ is pack/__init__.py."""
    for name, text in files.items():
        path = name.replace("__", "/")
        file = folder / f"{path}{'__init__' if path.endswith('/') else ''}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def names(folder: Path, objective: str = "mine:objective", brought: tuple[str, ...] = ()) -> list[str]:
    return [module.name for module in own_code(folder, objective, brought)]


@pytest.mark.parametrize(
    "statement",
    [
        "import helper",
        "import helper as h, os",
        "from helper import load",
        "def late():\n    from helper import load",
        "try:\n    import helper\nexcept ImportError:\n    helper = None",
    ],
)
def test_a_helper_that_is_imported_anywhere_travels(folder: Path, statement: str) -> None:
    write(folder, mine=f"{statement}\n{OBJECTIVE}", helper="", other="")
    assert names(folder) == ["mine.py", "helper.py"]


def test_what_helpers_and_packages_import_travels_too_each_once(folder: Path) -> None:
    write(folder, mine=f"import helper, pack.code\n{OBJECTIVE}", helper="import mine, deeper, pack\n", deeper="")
    write(folder, pack__="", pack__code="import last\nfrom . import other\n", last="import helper\n", other="")
    assert names(folder) == ["mine.py", "helper.py", "pack", "deeper.py", "last.py"]


def test_a_name_that_is_only_said_or_is_relative_brings_nothing(folder: Path) -> None:
    write(folder, mine=f"# helper\nx = 'import helper'\n{OBJECTIVE}", helper="")
    write(folder, pack__="from . import helper\nfrom .helper import x\n" + OBJECTIVE, pack__helper="")
    assert names(folder) == ["mine.py"]
    assert names(folder, "pack:objective") == ["pack"]


def test_what_py_files_names_is_not_sent_twice(folder: Path, study: Study) -> None:
    write(folder, mine=f"import helper\n{OBJECTIVE}", helper="")
    found = study("objective: mine:objective\nspark: {py_files: [helper.py]}\n")
    assert names(folder, brought=found.settings.spark.py_files) == ["mine.py"]


def test_a_folder_without_init_is_a_package_where_it_has_the_module(folder: Path, study: Study) -> None:
    write(
        folder, mymodel__train=f"from mymodel import features\n{OBJECTIVE}", mymodel__features="", mymodel__deep__a=""
    )
    study("objective: mymodel.train:objective\n")
    assert names(folder, "mymodel.train:objective") == ["mymodel"]
    assert names(folder, "mymodel.elsewhere:objective") == []  # an installed package may have it
    with pytest.raises(StudyFileError, match=r"train.py has no function 'training'; it has: features, objective"):
        study("objective: mymodel.train:training\n")
    with pytest.raises(
        StudyFileError, match=r"mymodel beside the study file is a folder without __init__.py: name the"
    ):
        study("objective: mymodel:objective\n")
    with zipfile.ZipFile(pack_module(folder / "m.zip", folder / "mymodel")) as archive:
        assert archive.namelist() == [
            "mymodel/__init__.py", "mymodel/deep/__init__.py", "mymodel/deep/a.py", "mymodel/features.py",
            "mymodel/train.py",
        ]  # fmt: skip


def test_data_travels_and_what_is_hidden_or_compiled_stays(folder: Path) -> None:
    write(folder, pack__=OBJECTIVE)
    for name in ("data/a.json", "data/.env", ".git/config", "__pycache__/x.pyc", "old.pyc", ".ipynb_checkpoints/a.py"):
        file = folder / "pack" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("1")
    (folder / "shared").mkdir()
    (folder / "shared" / "b.json").write_text("2")
    (folder / "pack" / "linked").symlink_to(folder / "shared")
    (folder / "shared" / "again").symlink_to(folder / "pack")  # without end, if it were followed
    with zipfile.ZipFile(pack_module(folder / "m.zip", folder / "pack")) as archive:
        assert archive.namelist() == ["pack/__init__.py", "pack/data/a.json", "pack/linked/b.json"]


def test_more_than_a_run_may_send_is_refused_with_the_largest_file(
    folder: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, mine=f"import pack\n{OBJECTIVE}", pack__="")
    with (folder / "pack" / "weights.bin").open("wb") as file:
        file.truncate(100 * 2**20)
    with pytest.raises(StudyFileError) as caught:
        study("objective: mine:objective\n")
    assert str(caught.value).endswith(
        "objective: at most 64 MB travel with an objective, and with pack beside the study file it is 100 MB (the"
        " largest: weights.bin, 100 MB): keep large files where workers can read them, as data.path or on a share"
    )
    (folder / "pack" / "weights.bin").unlink()
    study("objective: mine:objective\n")
    monkeypatch.setattr(own_code_module, "MOST_FILES", 1)
    with pytest.raises(StudyFileError, match="at most 1 files travel with an objective, and pack beside the study"):
        study("objective: mine:objective\n")


@pytest.mark.parametrize(
    ("name", "whose"), [("statistics", "is Python's own"), ("sklearn", "driver and workers have installed")]
)
def test_a_file_that_would_hide_an_installed_module_is_named(folder: Path, study: Study, name: str, whose: str) -> None:
    write(folder, mine=f"import {name}\n{OBJECTIVE}", **{name: ""})
    with pytest.raises(StudyFileError) as caught:
        study("objective: mine:objective\n")
    assert str(caught.value).endswith(
        f"objective: mine.py imports {name!r}, which {whose}, and {name}.py beside the study file would hide it: rename"
        f" {name}.py"
    )


def test_a_helper_that_is_no_python_is_named_with_its_line(folder: Path, study: Study) -> None:
    write(folder, mine=f"import helper\n{OBJECTIVE}", helper="x = 1\ndef\n")
    with pytest.raises(StudyFileError, match=r"objective: helper.py cannot be read by Python 3\.\S+: line 2: "):
        study("objective: mine:objective\n")


def test_what_travels_is_told_with_its_size(folder: Path) -> None:
    write(folder, mine=f"import pack\n{OBJECTIVE}", pack__="", pack__a="x" * 5000)
    assert shown_code(own_code(folder, "mine:objective")) == "mine.py (1 kB), pack (2 files, 5 kB)"


# As `jupyter nbconvert --to script` writes a notebook.
EXPORTED = """#!/usr/bin/env python
# coding: utf-8

# In[1]:


get_ipython().run_line_magic('matplotlib', 'inline')
import helper


# In[2]:


def objective(trial):
    return 1.0

"""


def test_the_export_of_a_notebook_runs_where_it_has_no_magic(folder: Path, study: Study) -> None:
    write(folder, mine=EXPORTED.replace("get_ipython", "# get_ipython"), helper="")
    study("objective: mine:objective\n")
    assert names(folder) == ["mine.py", "helper.py"]


def test_a_magic_in_the_export_of_a_notebook_is_named_with_its_line(folder: Path, study: Study) -> None:
    write(folder, mine=EXPORTED, helper="")
    with pytest.raises(StudyFileError) as caught:
        study("objective: mine:objective\n")
    assert str(caught.value).endswith(
        "objective: mine.py, line 7, uses get_ipython, which only a notebook has, as the export of a notebook writes"
        " its magics (%) and shell commands (!): take the line out, or define what it needs"
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "%matplotlib inline",
            r"line 2: a notebook's magic \(%\) or shell command \(!\) is no Python: take the line out$",
        ),
        ("!pip install x", r"line 2: a notebook's magic \(%\) or shell command \(!\) is no Python: take the line out$"),
        (
            "table = spark.table('t')",
            "line 2, uses spark, which only a notebook has: take the line out, or define what",
        ),
        ("display(1)", "line 2, uses display, which only a notebook has: take the line out"),
    ],
)
def test_a_helper_that_only_a_notebook_can_run_is_named(folder: Path, study: Study, line: str, sentence: str) -> None:
    write(folder, mine=f"import helper\n{OBJECTIVE}", helper=f"\n{line}\n")
    with pytest.raises(StudyFileError, match=f"objective: helper.py, {sentence}"):
        study("objective: mine:objective\n")


@pytest.mark.parametrize(
    "text",
    [
        "if 'get_ipython' in globals():\n    get_ipython().system('ls')\n",
        "try:\n    get_ipython()\nexcept NameError:\n    pass\n",
        "def shell():\n    return get_ipython()\n",
        "from IPython.display import display\ndisplay(1)\n",
        "spark = None\nprint(spark)\n",
    ],
)
def test_what_may_never_need_a_notebook_passes(folder: Path, study: Study, text: str) -> None:
    write(folder, mine=f"{text}{OBJECTIVE}")
    study("objective: mine:objective\n")


def test_a_notebook_without_its_module_is_told_how_to_become_one(folder: Path, study: Study) -> None:
    (folder / "churn.ipynb").write_text("{}")
    with pytest.raises(StudyFileError, match=r"churn.ipynb is a notebook: write its code into churn.py, .* nbconvert"):
        study("objective: churn:objective\n")
