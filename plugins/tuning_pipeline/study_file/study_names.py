"""Names of the studies of one folder: no two studies, and nothing that is kept beside one, may share a name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError, shown

# A study is kept under such a name when a reset replaces it.
REPLACED = ".replaced-"
# The new study has this one until it takes the old one's place.
NEW = ".new"
# And the trials that rule drift runs again; retune.rescoring.rescore_study.
RESCORE = ".rescore"


@dataclass(frozen=True)
class Clash:
    """Two files that cannot both be used, and why."""

    files: tuple[Path, Path]
    why: str

    def message_for(self, file: Path) -> str:
        """The error of one of the two files; it names the other."""
        other = self.files[1] if file == self.files[0] else self.files[0]
        return f"{shown(file)}: {self.why}, as for {shown(other)}: rename one of them"


def study_paths(folder: Path) -> list[Path]:
    """The study files of a folder."""
    return sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])


def study_path(folder: Path, name: str) -> Path:
    """The study file of this name.

    Raises:
        StudyFileError: There is none, or there are two, <name>.yaml and <name>.yml.
    """
    paths = study_paths(folder)
    found = [path for path in paths if path.stem == name]
    if not found:
        known = ", ".join(sorted({path.stem for path in paths})) or "no study file"
        raise StudyFileError(f"{shown(folder / name)}: there is no such study file; there is {known}")
    for clash in clashing_files(found):
        raise StudyFileError(clash.message_for(found[0]))
    return found[0]


def clashing_files(paths: Sequence[Path]) -> Iterator[Clash]:
    """Files that would make the same DAG, whether they can be read or not."""
    for index, path in enumerate(paths):
        for other in paths[:index]:
            if other.stem.casefold() == path.stem.casefold():
                yield Clash((other, path), f"the DAG would be called tune_{path.stem}")


def clashing_studies(studies: Sequence[StudyFile]) -> Iterator[Clash]:
    """Studies that would write into each other; MySQL's usual collations know no case."""
    for index, study in enumerate(studies):
        for other in studies[:index]:
            first, second = other.settings.study, study.settings.study
            if first.casefold() == second.casefold():
                yield Clash((other.path, study.path), f"the study would be called {second}")
            elif name := _kept_beside(first, second) or _kept_beside(second, first):
                yield Clash((other.path, study.path), f"the name {name} is kept for what belongs to one study")


def _kept_beside(name: str, other: str) -> str | None:
    """The other name, where it is one that is used for what belongs to the first study."""
    rest = other.casefold().removeprefix(name.casefold())
    if rest != other.casefold() and (rest in (RESCORE, NEW) or rest.startswith(REPLACED)):
        return other
    return None
