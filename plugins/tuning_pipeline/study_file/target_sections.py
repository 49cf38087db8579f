"""What a study file says differently for each target: rules, form fields, and facts that other rooms need.

The tasks of a target stand in its folder of `targets`, which builds on these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from tuning_pipeline.study_file.databricks_section import DatabricksSection
from tuning_pipeline.study_file.standalone_section import StandaloneSection

if TYPE_CHECKING:
    from tuning_pipeline.study_file.keys import StudyKeys


class TargetSection(Protocol):
    """A target as a study file sees it.

    Attributes:
        first_task: Id of the task that a run of such a study begins with.
        driver_elsewhere: Why Airflow cannot know from where Spark's driver connects to MySQL; empty where it can.
        runs_on_locked_packages: Whether workers have requirements/spark.txt, unless a study brings other packages.
        form_sections: Dotted names of the sections whose fields mean something there, at least for some studies.
    """

    first_task: str
    driver_elsewhere: str
    runs_on_locked_packages: bool
    form_sections: tuple[str, ...]

    def check(self, keys: StudyKeys) -> None:
        """Refuse what such a study must not say.

        Raises:
            SpecError: A key is missing, or means nothing there.
        """

    def offered_sections(self, keys: StudyKeys) -> tuple[str, ...]:
        """Those of `form_sections` that mean something for this study."""

    def has_database(self, keys: StudyKeys) -> bool:
        """Whether the study lives in a database that Airflow reaches; else it is a file that a cluster works on."""

    def brings_code(self, keys: StudyKeys) -> bool:
        """Whether the study names something that may install modules where its trials run."""


SECTIONS: Mapping[str, TargetSection] = {"standalone": StandaloneSection(), "databricks": DatabricksSection()}


def section_of(keys: StudyKeys) -> TargetSection:
    """The section of a study's target."""
    return SECTIONS[keys.target]
