"""Samplers and pruners of other packages, named as module:Class."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import optuna
import pytest

from optuna_spark.errors import SpecError
from optuna_spark.sampling.build import build_pruner, build_sampler
from optuna_spark.spec.sections import ComponentSpec
from optuna_spark.spec.tuning import TuningSpec
from tests.support.coordination import run, spec_for
from tests.support.shared import started

CODE = """
import optuna
from optuna.samplers import RandomSampler

class MySampler(RandomSampler):
    def __init__(self, scale=1, *, seed=None):
        if scale < 0:
            raise KeyError("scale must be positive")
        super().__init__(seed)
        self.scale, self.seed = scale, seed

class Seedless(RandomSampler):
    def __init__(self, **options):
        super().__init__()
        self.options = options

class Cma(optuna.samplers.CmaEsSampler):
    pass

class Half(optuna.samplers.BaseSampler):
    def infer_relative_search_space(self, study, trial):
        return {}

class MyPruner(optuna.pruners.BasePruner):
    def __init__(self, inner=None):
        self.inner = inner
    def prune(self, study, trial):
        return trial.last_step >= 2

def function(seed): ...
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "other_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "classes.py").write_text(CODE)
    (folder / "needs.py").write_text("import not_there_at_all")
    (folder / "broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("classes", "needs", "broken"):
        monkeypatch.delitem(sys.modules, f"other_package.{name}", raising=False)
    monkeypatch.delitem(sys.modules, "other_package", raising=False)


def test_its_constructor_gets_the_arguments_and_the_seed() -> None:
    sampler = build_sampler(ComponentSpec("other_package.classes:MySampler", {"scale": 3}), 7)
    assert (sampler.scale, sampler.seed) == (3, 7)  # type: ignore[attr-defined]
    own = build_sampler(ComponentSpec("other_package.classes:MySampler", {"seed": 5}), 7)
    assert own.seed == 5  # type: ignore[attr-defined]


def test_one_that_takes_no_seed_gets_none_and_one_that_takes_anything_gets_it() -> None:
    sampler = build_sampler(ComponentSpec("other_package.classes:Seedless", {"colour": 3}), 7)
    assert sampler.options == {"colour": 3}  # type: ignore[attr-defined]


def test_it_may_be_an_argument_of_optunas_and_gets_the_seed_there() -> None:
    nested = {"name": "other_package.classes:MySampler", "args": {"scale": 2}}
    sampler = build_sampler(
        ComponentSpec("PartialFixedSampler", {"fixed_params": {"y": 1.0}, "base_sampler": nested}), 7
    )
    base = sampler._base_sampler  # type: ignore[attr-defined]
    assert (type(base).__name__, base.scale, base.seed) == ("MySampler", 2, 7)


def test_a_pruner_too_and_one_in_another() -> None:
    nested = {"wrapped_pruner": {"name": "other_package.classes:MyPruner"}, "patience": 1}
    pruner = build_pruner(ComponentSpec("PatientPruner", nested))
    assert type(pruner._wrapped_pruner).__name__ == "MyPruner"  # type: ignore[attr-defined]
    outer = build_pruner(ComponentSpec("other_package.classes:MyPruner", {"inner": {"name": "MedianPruner"}}), 10)
    assert isinstance(outer.inner, optuna.pruners.MedianPruner)  # type: ignore[attr-defined]


REFUSED = {
    "no_such_package.x:A": "sampler: there is no package 'no_such_package' where the driver runs: install it there",
    "other_package.nothing:A": "sampler: there is no module 'other_package.nothing' in the package 'other_package'",
    "other_package.needs:A": "sampler: module 'other_package.needs' needs 'not_there_at_all', which is not installed",
    "other_package.broken:A": "cannot be imported: ZeroDivisionError",
    "other_package.classes:MySamler": "has no class 'MySamler': did you mean 'MySampler'?",
    "other_package.classes:function": "must be a class derived from optuna's BaseSampler",
    "other_package.classes:MyPruner": "must be a class derived from optuna's BaseSampler",
    "other_package.classes:Half": "must be a whole sampler, but lacks sample_independent, sample_relative",
}


@pytest.mark.parametrize(("name", "sentence"), REFUSED.items())
def test_what_is_missing_is_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(SpecError) as refused:
        build_sampler(ComponentSpec(name), 1)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["a b:C", ":C", "a:", "a:b:c", "a.:C", "../a:C", "a:C()"])
def test_its_name_is_module_and_class(name: str) -> None:
    with pytest.raises(SpecError, match="must be a class of Optuna's or module:Class, got"):
        ComponentSpec(name)


def test_an_argument_that_it_does_not_take_or_refuses_is_named() -> None:
    with pytest.raises(SpecError, match=r"sampler.args: unknown key 'scal' \(did you mean 'scale'\?\)"):
        build_sampler(ComponentSpec("other_package.classes:MySampler", {"scal": 3}), 1)
    with pytest.raises(SpecError, match=r"sampler.args: MySampler refuses its arguments: KeyError: .*must be positive"):
        build_sampler(ComponentSpec("other_package.classes:MySampler", {"scale": -1}), 1)


def test_one_derived_from_optunas_needs_the_same_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SpecError, match="Cma needs the package cmaes"):
        build_sampler(ComponentSpec("other_package.classes:Cma"), 1)


@pytest.mark.parametrize("coordination", ["driver", "database"])
@pytest.mark.parametrize("kind", ["sampler", "pruner"])
def test_the_driver_refuses_it_before_any_trial(tmp_path: Path, coordination: str, kind: str) -> None:
    url = f"sqlite:///{tmp_path}/study.sqlite3"
    spec = spec_for(coordination=coordination, **{kind: ComponentSpec("no_such_package.x:A")})
    begin = run if coordination == "driver" else _start
    with pytest.raises(SpecError, match=f"{kind}: there is no package 'no_such_package'"):
        begin(spec, url)
    assert optuna.get_all_study_names(optuna.storages.RDBStorage(url)) == []


def _start(spec: TuningSpec, url: str) -> None:
    with started(spec, url):
        pass
