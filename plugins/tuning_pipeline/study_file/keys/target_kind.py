"""What is known of a target before any task runs: the DAG processor imports it, so no client library stands here."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from tuning_pipeline.study_file.keys.study_keys import StudyKeys


class TargetKind:
    """A target as a study file sees it and the registry lists it. What is not overridden says: nothing of that sort.

    Attributes:
        implementation: `module:name` of its Target. A text, because only its own studies import it.
        title: Its name as a person writes it.
        first_task: Id of the task that a run of such a study begins with.
        settings: Dataclass of its section in a study file, whose fields are keys with defaults (see
            `optuna_spark.spec.key`). The section has the name under which the registry lists the target, and each
            study's `target_sections` holds it by that name.
        driver_elsewhere: Why Airflow cannot know from where Spark's driver connects to MySQL; empty where it can.
        runs_on_locked_packages: Whether workers have requirements/spark.txt, unless a study brings other packages.
        form_sections: Dotted names of the sections whose fields mean something there, at least for some studies.
    """

    implementation: ClassVar[str]
    title: ClassVar[str]
    first_task: ClassVar[str]
    settings: ClassVar[type | None] = None
    driver_elsewhere: ClassVar[str] = ""
    runs_on_locked_packages: ClassVar[bool] = False
    form_sections: ClassVar[tuple[str, ...]] = ()

    def check(self, _keys: StudyKeys) -> None:
        """Refuse what such a study must not say.

        Raises:
            SpecError: A key is missing, or means nothing there.
        """

    def offered_sections(self, _keys: StudyKeys) -> tuple[str, ...]:
        """Those of `form_sections` that mean something for this study."""
        return self.form_sections

    def has_database(self, _keys: StudyKeys) -> bool:
        """Whether the study lives in a database that Airflow reaches; else it is a file that a cluster works on."""
        return True

    def runs_folder(self, _keys: StudyKeys) -> str:
        """Where such a study's runs have a folder each, which takes a request to finish; empty with a database."""
        return ""

    def brings_code(self, _keys: StudyKeys) -> bool:
        """Whether the study names something that may install modules where its trials run."""
        return False

    def kept_file(self, _keys: StudyKeys) -> str:
        """Where that file is kept between two runs, as a person finds it; empty with a database."""
        return ""
