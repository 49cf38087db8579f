"""A study file: what it may say, and how it becomes a TuningSpec."""

from __future__ import annotations

import copy
import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from optuna_spark.errors import SpecError, TuningError
from optuna_spark.objectives.registry import check_objective, complete, kind_of, max_steps, sections, with_moved_keys
from optuna_spark.spec.decode import describe, from_dict, to_dict, unknown_key
from optuna_spark.spec.plain_secrets import refuse_plain_secrets
from optuna_spark.spec.run_keys import DEFAULT_PRUNER, DEFAULT_SAMPLER, RunKeys
from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.study_file.declared import SECTION_KEY, TARGETS_KEY, top_level_keys
from tuning_pipeline.study_file.own_objective import check_own_objective
from tuning_pipeline.study_file.read_yaml import read_yaml
from tuning_pipeline.study_file.settings import StudySettings
from tuning_pipeline.targets import registry as targets

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


class StudyFileError(TuningError):
    """A study file, or the form that changes it, is wrong; the message names file, key and rule."""

    next = SpecError.next
    retry = False


class FormError(StudyFileError):
    """A value of a run's trigger form or conf is wrong; the study file is right."""

    next = "Trigger again with another value; the study file is right as it is."

    def __init__(self, message: str) -> None:
        super().__init__(f"trigger conf: {message}")


@dataclass(frozen=True)
class StudyFile:
    """A study file that was read and found right.

    Attributes:
        path: The file.
        document: Its content, normalised: what a form's changes are laid over.
        settings: The same, typed.
    """

    path: Path
    document: dict[str, Any]
    settings: StudySettings

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def dag_id(self) -> str:
        return f"tune_{self.name}"

    def values(self) -> dict[str, Any]:
        """The value of every key, by name, as in a study file that leaves none out."""
        values: dict[str, Any] = to_dict(self.settings)
        given = values.pop(SECTION_KEY)
        objective = self.settings.objective
        if (section := kind_of(objective).section) is not None:
            values[objective] = to_dict(from_dict(section, given))
        of_targets: dict[str, Any] = values.pop(TARGETS_KEY)
        return values | of_targets

    @property
    def has_database(self) -> bool:
        """Whether the study lives in a database that Airflow reaches; else it is a file that a cluster works on."""
        return targets.kind_of(self.settings).has_database(self.settings)

    @property
    def runs_folder(self) -> str:
        """Where its runs have a folder each, which takes a request to finish; empty with a database."""
        return targets.kind_of(self.settings).runs_folder(self.settings)

    def changed(self, changes: Mapping[str, Any]) -> StudyFile:
        """The study with some values replaced by those of a run's form, checked again.

        Args:
            changes: New values by dotted key, e.g. {"trials": 10, "validation.folds": 5}.

        Raises:
            FormError: A changed value breaks a rule: the file alone breaks none.
        """
        if not changes:
            return self
        try:
            self._keep_connected(changes)
            return _checked(self.path, self._with(changes))
        except SpecError as error:
            raise FormError(str(error)) from None

    def _with(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        document = copy.deepcopy(self.document)
        for key, value in changes.items():
            section = document
            *parents, last = key.split(".")
            for parent in parents:
                section = section.setdefault(parent, {})
            section[last] = value
        return document

    def _keep_connected(self, changes: Mapping[str, Any]) -> None:
        """What a connection opens is the study file's word: a run could send its login anywhere else."""
        data = self.settings.data
        if data is None or data.connection is None:
            return
        for name in ("path", "format"):
            if changes.get(f"data.{name}", getattr(data, name)) != getattr(data, name):
                raise SpecError(
                    "cannot be changed for a run, since data.connection opens it; change the study file",
                    f"data.{name}",
                )

    def to_spec(self, run_id: str) -> TuningSpec:
        """What this study asks a run to do."""
        return to_spec(self.settings, run_id)

    def exports_base(self) -> str:
        """Where exports go: the study file's word, else TUNING_EXPORTS, else `exports` beside the DAG folder."""
        default = os.environ.get("TUNING_EXPORTS") or str(self.path.resolve().parents[2] / "exports")
        return self.settings.exports or default


def read_study(path: Path) -> StudyFile:
    """Read and check a study file.

    Raises:
        StudyFileError: With a message that names the file, the key, the rule and the valid keys.
    """
    try:
        if not _IDENTIFIER.fullmatch(path.stem):
            raise SpecError("the file name may hold letters, digits, '_', '-' and '.' only: it names the DAG")
        document = read_yaml(path)
        refuse_plain_secrets(document, free=sections())  # first, since other errors quote what they refuse
        document = spelled_out(document, path)
        _resolve_paths(document, path.parent)
        return _checked(path, document)
    except SpecError as error:
        raise StudyFileError(f"{shown(path)}: {error}") from None


def parse_study(path: Path, document: dict[str, Any]) -> StudyFile:
    """Check a normalised document.

    Raises:
        StudyFileError: As for `read_study`.
    """
    try:
        return _checked(path, document)
    except SpecError as error:
        raise StudyFileError(f"{shown(path)}: {error}") from None


def _checked(path: Path, document: dict[str, Any]) -> StudyFile:
    """The study that a normalised document describes.

    Raises:
        SpecError: The first thing wrong.
    """
    refuse_plain_secrets(document, free=sections())
    settings = from_dict(StudySettings, _with_sections(document))
    check_spec(to_spec(settings, "check"))
    check_own_objective(path.parent, settings)
    return StudyFile(path, document, settings)


def _with_sections(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as the settings have it: its objective's section under one name, the targets' under another.

    Raises:
        SpecError: A key or a value that a section does not take, or a section of another objective.
    """
    of_targets = targets.target_settings()
    values = {name: value for name, value in document.items() if name not in {*sections(), *of_targets}}
    values[TARGETS_KEY] = {
        name: from_dict(section, {} if document.get(name) is None else document[name], name)
        for name, section in of_targets.items()
    }
    objective = document.get("objective", StudySettings.objective)
    for name, section in sections().items():
        given = document.get(name)
        if given is None:
            continue
        if name != objective:
            raise SpecError(f"the {name} section is for objective {name}, not {objective}")
        from_dict(section, given, name)
        values[SECTION_KEY] = given
    return values


def to_spec(settings: StudySettings, run_id: str) -> TuningSpec:
    """The part of a study that travels to the cluster.

    Raises:
        SpecError: The keys do not fit each other.
    """
    shared = {field.name: getattr(settings, field.name) for field in dataclasses.fields(RunKeys)}
    return complete(TuningSpec(settings.study, run_id=run_id, **shared))


def check_spec(spec: TuningSpec) -> None:
    """What can be known wrong before any trial runs.

    Raises:
        SpecError: What the objective refuses; a sampler or pruner that Optuna does not have.
    """
    check_objective(spec)
    if spec.sampler != DEFAULT_SAMPLER:
        _check_component(spec, "sampler")
    if spec.pruner != DEFAULT_PRUNER:
        _check_component(spec, "pruner")


def _check_component(spec: TuningSpec, kind: Literal["sampler", "pruner"]) -> None:
    component = spec.sampler if kind == "sampler" else spec.pruner
    if any(component.own_classes()):
        return  # code of others, which `make check-studies` and the driver import, and no part of Airflow does
    # Optuna takes 0.3 s to import: the DAG processor pays that only for studies that name a sampler or pruner.
    from optuna_spark.sampling.build import build_pruner, build_sampler

    try:
        if kind == "sampler":
            build_sampler(component, spec.seed)
        else:
            build_pruner(component, max_steps(spec))
    except SpecError as error:
        # A sampler may need a package, torch for example, that only the Spark side has.
        if not isinstance(error.__cause__, ImportError):
            raise


def spelled_out(document: object, path: Path) -> dict[str, Any]:
    """The content of a study file with its short forms spelled out.

    Args:
        document: As read from YAML.
        path: The file, which names the study where the document does not.

    Raises:
        SpecError: It holds no keys and values, or one that nobody knows.
    """
    if not isinstance(document, dict):
        raise SpecError(f"must hold keys and values, got {describe(document)}")
    document = dict(document)
    valid = [*top_level_keys(), "direction"]
    for key in document:
        if key not in valid:
            raise SpecError(unknown_key(str(key), valid))
    if not document.get("study"):
        document["study"] = path.stem
    if "direction" in document:
        if "directions" in document:
            raise SpecError("give direction for one objective or directions for several, not both")
        document["directions"] = [document.pop("direction")]
    for key in ("sampler", "pruner"):
        if isinstance(document.get(key), str):
            document[key] = {"name": document[key]}
    for name in sections():
        if name == document.get("objective") and document.get(name) is None:
            document[name] = {}
    return with_moved_keys(document)


def _resolve_paths(document: dict[str, Any], folder: Path) -> None:
    data, spark = document.get("data"), document.get("spark")
    if isinstance(data, dict) and data.get("format") != "table":
        document["data"] = {**data, **({"path": _resolved(data["path"], folder)} if data.get("path") else {})}
    if isinstance(spark, dict):
        document["spark"] = dict(spark)
        for key in ("py_files", "archives"):
            if isinstance(spark.get(key), list):
                document["spark"][key] = [resolve_path(p, folder) if isinstance(p, str) else p for p in spark[key]]
    if isinstance(document.get("exports"), str):
        document["exports"] = resolve_path(document["exports"], folder)


def _resolved(path: Any, folder: Path) -> Any:
    """`data.path`, a text or a list of them; what is neither stays for the check of types."""
    if isinstance(path, list | tuple):
        return [_resolved(one, folder) for one in path]
    return resolve_path(path, folder) if isinstance(path, str) and path else path


def resolve_path(path: str, folder: Path) -> str:
    """A relative path made absolute; URLs, `sklearn:<name>` and absolute paths stay as they are."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", path):
        return path
    return str((folder / path).resolve()) if not Path(path).is_absolute() else path


def shown(path: Path) -> str:
    """The file as its author knows it: with the folder it lies in."""
    return "/".join(path.parts[-3:])
