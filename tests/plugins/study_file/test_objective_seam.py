"""A new built-in objective is a folder and a line in the registry: everything else finds it there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest

from optuna_spark.device import Device
from optuna_spark.errors import SpecError
from optuna_spark.objectives import registry
from optuna_spark.objectives.context import ObjectiveContext
from optuna_spark.objectives.kind import ObjectiveKind
from optuna_spark.spec.decode import from_dict
from optuna_spark.spec.form_fields import plain
from optuna_spark.spec.key import check_limits, key
from optuna_spark.spec.sections import ParamSpec
from optuna_spark.spec.tuning import TuningSpec
from tests.support.studies import listed, study_reader
from tuning_pipeline.dag.form import form_params
from tuning_pipeline.reference.page import reference_page
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError

Study = Callable[[str], StudyFile]


@dataclass(frozen=True)
class PowerSection:
    exponent: int = key(2, "What x is raised to.", minimum=1, maximum=9, field=plain("Power"))
    even: bool = key(False, "Whether the exponent must be even.")

    def __post_init__(self) -> None:
        check_limits(self)


class PowerKind(ObjectiveKind):
    implementation = f"{__name__}:Power"
    title = "POWER"
    section = PowerSection

    def default_space(self, _spec: TuningSpec) -> dict[str, ParamSpec]:
        return {"x": ParamSpec("float", 0, 1)}

    def check(self, spec: TuningSpec) -> None:
        section = from_dict(PowerSection, spec.objective_section, "power")
        if section.even and section.exponent % 2:
            raise SpecError(f"exponent must be even, got {section.exponent}", "power")

    def max_steps(self, _spec: TuningSpec) -> int | None:
        return 7


class Power:
    def __init__(self, context: ObjectiveContext) -> None:
        self._exponent = from_dict(PowerSection, context.spec.objective_section).exponent
        self._x = context.spec.search_space["x"]

    def __call__(self, trial: Any) -> float:
        return float(trial.suggest_float("x", self._x.low, self._x.high) ** self._exponent)


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    """Reads a study file where the registry has one objective more."""
    with listed(registry.BUILT_IN, "power", PowerKind()):
        yield study_reader(tmp_path)


def test_its_section_is_read_and_reaches_the_objective(study: Study) -> None:
    spec = study("objective: power\npower: {exponent: 3}\n").to_spec("run")
    assert spec.search_space == {"x": ParamSpec("float", 0, 1)}
    again = TuningSpec.from_json(spec.to_json())
    objective = registry.build_objective(ObjectiveContext(again, Device("cpu", None, 1)))
    assert objective(optuna.trial.FixedTrial({"x": 0.5})) == 0.125
    assert registry.max_steps(spec) == 7


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ("{exponents: 3}", r"power: unknown key 'exponents' \(did you mean 'exponent'\?\); valid keys: even, exponent"),
        ("{exponent: 10}", "power: exponent must be at most 9, got 10"),
        ("{exponent: two}", "power.exponent: must be a whole number, got str 'two'"),
        ("{exponent: 3, even: true}", "power: exponent must be even, got 3"),
        ("7", "power: must be a mapping of keys to values, got int 7"),
    ],
)
def test_what_it_refuses_is_refused_where_the_file_is_read(study: Study, section: str, sentence: str) -> None:
    with pytest.raises(StudyFileError, match=sentence):
        study(f"objective: power\npower: {section}\n")


def test_its_section_is_for_no_other_objective(study: Study) -> None:
    with pytest.raises(StudyFileError, match="the power section is for objective power, not quadratic"):
        study("power: {exponent: 3}\n")
    with pytest.raises(StudyFileError, match="objective must be quadratic, xgboost, power or module:function"):
        study("objective: powers\n")


def test_its_fields_are_in_the_form_of_its_studies_alone(study: Study) -> None:
    field = form_params(study("objective: power\npower: {exponent: 3}\n"))["power_exponent"]
    assert (field.value, field.schema["title"], field.schema["section"]) == (3, "POWER exponent", "Power")
    assert "power_even" not in form_params(study("objective: power\n"))
    assert "power_exponent" not in form_params(study("objective: quadratic\n"))
    changed = study("objective: power\n").changed({"power.exponent": 5})
    assert changed.to_spec("run").objective_section == {"exponent": 5}


def test_its_keys_are_on_the_reference_page(study: Study) -> None:
    row = "| `power.exponent` | whole number, 1 to 9 | `2` | form: `power_exponent` | What x is raised to. |"
    assert row in reference_page().splitlines()
