"""The matrix: ways of starting a run x its mode x what is done to it afterwards, and what then stands where.

Each story is a study of its own, each cell one step of it with what the study, the exports and the asset events hold
after that step. tests/whole/test_matrix.py plays the stories on a real Airflow; docs/runs.md has them as a table:

    python -m tests.support.matrix
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from tests.support.matrix_actions import (
    Action,
    AfterKilled,
    Again,
    Backfill,
    Beside,
    Clear,
    CommandLine,
    Killed,
    Materialize,
    Operator,
    Renamed,
    Rest,
    Scheduled,
    Twin,
    Update,
    WhileItTunes,
)
from tests.support.matrix_stage import Held

SHORT = "objective: quadratic\ntrials: 2\ntasks: 1\nretries: 0\npool: default_pool\n"
RESET = "retune: {mode: reset}\n"
YEARLY = "schedule: '0 0 1 1 *'\nstart_date: 2020-01-01\n"
FORBIDDEN = {"spark_conf": {"spark.driver.extraJavaOptions": "-XX:OnOutOfMemoryError=id"}}
REFUSED = "trigger conf: this study's form does not offer spark_conf"


@dataclass(frozen=True)
class Says:
    """A text in the log of a task's last try, or with an empty task in what the step itself heard."""

    label: str
    task: str
    text: str


@dataclass(frozen=True)
class Cell:
    """A step, and what stands where after it."""

    does: Action
    held: Held
    says: Says | None = None


@dataclass(frozen=True)
class Story:
    """A study and what is done to it, in this order.

    Attributes:
        name: Of the study and its file.
        file: What the study file says besides SHORT; GATED stands for an objective that waits.
        title: What of it matters, for the table.
        cells: The steps.
    """

    name: str
    title: str
    cells: tuple[Cell, ...]
    file: str = ""
    is_gated: bool = False

    @property
    def twin(self) -> str | None:
        """The file of another DAG on the same study, if the story has one."""
        has_one = any(isinstance(cell.does, Twin) for cell in self.cells)
        return f"{SHORT}{RESET}study: {self.name}\n" if has_one else None

    @property
    def text(self) -> str:
        objective = f"objective: {self.name}:gated\n" if self.is_gated else "objective: quadratic\n"
        return SHORT.replace("objective: quadratic\n", objective) + self.file

    @property
    def is_scheduled(self) -> bool:
        return YEARLY in self.file


BY_HAND = Story(
    "by_hand", "`retune.mode: reset`",
    (
        Cell(Rest("A"), Held("A ok", "A2", "A: A2", "A", "A")),
        Cell(Rest("B", {"mode": "resume"}), Held("A ok, B ok", "A2 B2", "A: A2, B: A2 B2", "B", "A B")),
        Cell(
            Update("C"),
            Held("A ok, B ok, C ok", "C2", "A: A2, B: A2 B2, C: C2", "C", "A B C", replaced="A2 B2"),
        ),
    ),
    file="retune: {mode: reset, assets: [source_by_hand]}\n",
)  # fmt: skip
FROM_ELSEWHERE = Story(
    "from_elsewhere", "`retune.mode: reset`",
    (
        Cell(Materialize("A"), Held("A ok", "A2", "A: A2", "A", "A")),
        Cell(Materialize("B", {"mode": "resume"}), Held("A ok, B ok", "A2 B2", "A: A2, B: A2 B2", "B", "A B")),
        Cell(
            Operator("C", {"mode": "resume"}),
            Held("A ok, B ok, C ok", "A2 B2 C2", "A: A2, B: A2 B2, C: A2 B2 C2", "C", "A B C"),
        ),
        Cell(
            Operator("D"),
            Held(
                "A ok, B ok, C ok, D ok", "D2", "A: A2, B: A2 B2, C: A2 B2 C2, D: D2", "D", "A B C D",
                replaced="A2 B2 C2",
            ),
        ),
    ),
    file=RESET,
)  # fmt: skip
ASKED_RESET = Story(
    "asked_reset", "`retune.mode: resume`, as by default",
    (
        Cell(Operator("A"), Held("A ok", "A2", "A: A2", "A", "A")),
        Cell(Operator("B", {"mode": "reset"}), Held("A ok, B ok", "B2", "A: A2, B: B2", "B", "A B", replaced="A2")),
        Cell(
            Materialize("C", {"mode": "reset"}),
            Held("A ok, B ok, C ok", "C2", "A: A2, B: B2, C: C2", "C", "A B C", replaced="B2"),
        ),
        Cell(
            Rest("D"),
            Held("A ok, B ok, C ok, D ok", "C2 D2", "A: A2, B: B2, C: C2, D: C2 D2", "D", "A B C D", replaced="B2"),
        ),
    ),
)  # fmt: skip
DATES = Story(
    "dates", "`retune.mode: reset`, and a schedule",
    (
        Cell(Scheduled("A"), Held("A ok", "A2", "A: A2", "A", "A")),
        Cell(
            Backfill("BCD"),
            Held(
                "A ok, B ok, C ok, D ok", "D2", "A: A2, B: B2, C: C2, D: D2", "D", "A B C D", replaced="C2",
            ),
        ),
    ),
    file=RESET + YEARLY,
)  # fmt: skip
UNTOUCHED = ("A2", "A: A2", "A", "A")


def refused(does: Action, label: str) -> Cell:
    """A run that may not say what it says, after all those before it."""
    states = ["A ok", *(f"{run} failed in provision_database" for run in "BCDEF" if run <= label)]
    return Cell(does, Held(", ".join(states), *UNTOUCHED), Says(label, "provision_database", REFUSED))


FORBIDDEN_CONF = Story(
    "forbidden", "`retune.mode: reset`, and a schedule",
    (
        Cell(Scheduled("A"), Held("A ok", *UNTOUCHED)),
        refused(Rest("B", FORBIDDEN), "B"),
        refused(Operator("C", FORBIDDEN), "C"),
        refused(Materialize("D", FORBIDDEN), "D"),
        refused(Backfill("E", FORBIDDEN), "E"),
        refused(CommandLine("F", FORBIDDEN), "F"),
    ),
    file=RESET + YEARLY,
)  # fmt: skip
AGAIN = Story(
    "again", "`retune.mode: resume`; A' and A'' are runs of A's id",
    (
        Cell(Rest("A", {"mode": "create"}), Held("A ok", *UNTOUCHED)),
        Cell(
            Rest("B", {"mode": "create"}),
            Held("A ok, B failed in prepare_study", *UNTOUCHED),
            Says("B", "prepare_study", "study 'again' exists, and mode create must not touch it"),
        ),
        Cell(
            Again("A", {"mode": "resume"}),
            Held("A ok, B failed in prepare_study", "A2 A'2", "A: A2 A'2", "A", "A A"),
        ),
        Cell(
            Again("A", {"mode": "reset"}),
            Held("A ok, B failed in prepare_study", "A''2", "A: A''2", "A", "A A A", replaced="A2 A'2"),
        ),
        Cell(
            Again("A", {"mode": "create"}),
            Held(
                "A failed in prepare_study, B failed in prepare_study", "A''2", "A: A''2", "A", "A A A",
                replaced="A2 A'2",
            ),
            Says("A", "prepare_study", "study 'again' exists, and mode create must not touch it"),
        ),
    ),
)  # fmt: skip


def resumed(events: str) -> Held:
    """After anything that is cleared of a run that resumed, or of the one before it."""
    return Held("A ok, B ok", "A2 B2", "A: A2, B: A2 B2", "B", events)


NOT_NEWEST = "`latest` and the published parameters stay"
RESUMED = Story(
    "resumed", "newest run: a resume",
    (
        Cell(Rest("A", {"mode": "resume"}), Held("A ok", *UNTOUCHED)),
        Cell(Rest("B", {"mode": "resume"}), resumed("A B")),
        Cell(Clear("B", "provision_database"), resumed("A B")),
        Cell(Clear("B", "prepare_study"), resumed("A B")),
        Cell(Clear("B", "tune"), resumed("A B")),
        Cell(Clear("B", "export_best_trials"), resumed("A B B")),
        Cell(Clear("B"), resumed("A B B B")),
        Cell(Clear("A", "export_best_trials"), resumed("A B B B"), Says("A", "export_best_trials", NOT_NEWEST)),
        Cell(Clear("A"), resumed("A B B B"), Says("A", "export_best_trials", NOT_NEWEST)),
    ),
)  # fmt: skip


def was_reset(events: str, a: str = "A ok") -> Held:
    """After anything that is cleared of a run that reset the study, or of the one whose trials went with it."""
    return Held(f"{a}, B ok", "B2", "A: A2, B: B2", "B", events, replaced="A2")


NOT_ITS_STUDY = "study 'was_reset' is no longer the one that this run prepared"
WAS_RESET = Story(
    "was_reset", "newest run: a reset",
    (
        Cell(Rest("A", {"mode": "reset"}), Held("A ok", *UNTOUCHED)),
        Cell(Rest("B", {"mode": "reset"}), was_reset("A B")),
        Cell(Clear("B", "provision_database"), was_reset("A B")),
        Cell(Clear("B", "prepare_study"), was_reset("A B")),
        Cell(Clear("B", "tune"), was_reset("A B")),
        Cell(Clear("B", "export_best_trials"), was_reset("A B B")),
        Cell(Clear("B"), was_reset("A B B B")),
        Cell(
            Clear("A", "export_best_trials"),
            was_reset("A B B B", "A failed in export_best_trials"),
            Says("A", "export_best_trials", "this run's trials are gone from study 'was_reset'"),
        ),
        Cell(
            Clear("A", "tune"),
            was_reset("A B B B", "A failed in tune export_best_trials"),
            Says("A", "tune", NOT_ITS_STUDY),
        ),
        Cell(
            Clear("A", "prepare_study"),
            was_reset("A B B B", "A failed in prepare_study tune export_best_trials"),
            Says("A", "prepare_study", NOT_ITS_STUDY),
        ),
        Cell(
            Clear("A"),
            was_reset("A B B B", "A failed in prepare_study"),
            Says("A", "prepare_study", NOT_ITS_STUDY),
        ),
    ),
)  # fmt: skip
RENAMED = Story(
    "renamed", "`retune.mode: resume`",
    (
        Cell(
            Renamed("A"),
            Held("A ok", "A2", "A: A2", "A"),
            Says("A", "export_best_trials", "The study file has changed (study) since this run prepared its study"),
        ),
    ),
    is_gated=True,
)  # fmt: skip
BESIDE = Story(
    "beside", "`retune.mode: resume`",
    (
        Cell(
            Beside("A", "B"),
            Held("A ok, B ok", "A2 B2", "A: A2, B: A2 B2", "B", "A B"),
            Says("B", "", "Waiting for study beside: run A of DAG tune_beside has been working on it since"),
        ),
    ),
    is_gated=True,
)  # fmt: skip
TWO_DAGS = Story(
    "two_dags", "`retune.mode: resume`",
    (
        Cell(
            Twin("A", "B"),
            Held("A ok", "B2", "A: A2, B: B2", "B", "A", replaced="A2"),
            Says("B", "", "Waiting for study two_dags: run A of DAG tune_two_dags has been working on it since"),
        ),
    ),
    is_gated=True,
)  # fmt: skip
KILLED = Story(
    "killed", "`retune.mode: resume`",
    (
        Cell(Killed("A"), Held("A failed in tune", "A1 FAIL")),
        Cell(
            AfterKilled("B", "A"),
            Held("A failed in tune, B ok", "A1 FAIL B2", "B: A1 FAIL B2", "B", "B"),
            Says("B", "", "Waiting for study killed: run A of DAG tune_killed has been working on it since"),
        ),
    ),
    is_gated=True,
)  # fmt: skip
MARKED = Story(
    "marked", "`retune.mode: resume`",
    (
        Cell(Rest("A", {"mode": "resume"}), Held("A ok", *UNTOUCHED)),
        Cell(WhileItTunes("B", "tune failed"), Held("A ok, B failed in tune", "A2 B1 FAIL", "A: A2", "A", "A")),
        Cell(
            WhileItTunes("C", "tune success"),
            Held("A ok, B failed in tune, C ok", "A2 B1 FAIL C1 FAIL", "A: A2, C: A2 B1 FAIL C1 FAIL", "C", "A C"),
        ),
        Cell(
            WhileItTunes("D", "tune cleared"),
            Held(
                "A ok, B failed in tune, C ok, D ok", "A2 B1 FAIL C1 FAIL D1 FAIL D2",
                "A: A2, C: A2 B1 FAIL C1 FAIL, D: A2 B1 FAIL C1 FAIL D1 FAIL D2", "D", "A C D",
            ),
        ),
    ),
    is_gated=True,
)  # fmt: skip
ENDED = Story(
    "ended", "`retune.mode: resume`",
    (
        Cell(WhileItTunes("A", "run failed"), Held("A failed in tune", "A1 FAIL")),
        Cell(WhileItTunes("B", "run success"), Held("A failed in tune, B ok", "A1 FAIL B1 FAIL")),
        Cell(WhileItTunes("C", "run deleted"), Held("A failed in tune, B ok", "A1 FAIL B1 FAIL C1 FAIL")),
        Cell(
            Rest("D", {"mode": "resume"}),
            Held(
                "A failed in tune, B ok, D ok", "A1 FAIL B1 FAIL C1 FAIL D2", "D: A1 FAIL B1 FAIL C1 FAIL D2", "D", "D"
            ),
        ),
    ),
    is_gated=True,
)  # fmt: skip
# The longest first.
STORIES = (
    DATES, WAS_RESET, RESUMED, AGAIN, BESIDE, TWO_DAGS, KILLED, FROM_ELSEWHERE, ASKED_RESET, BY_HAND, FORBIDDEN_CONF,
    RENAMED, MARKED, ENDED,
)  # fmt: skip
# What `make test` plays; all of them take a quarter of an hour more. Not BESIDE: for seconds
# `airflow dags test` leaves a task where a scheduler of the same metadata database may take it, and then both fail.
USUAL = tuple(story for story in STORIES if story.name in ("was_reset", "by_hand", "renamed"))
HEAD = ("Study", "What is done", "Runs", "Trials of the study", "Exports", "`latest`", "Events", "Kept from before")


def table() -> str:
    """The stories in Markdown, a row for each cell."""
    rows = [HEAD, ("---",) * len(HEAD)]
    for story in STORIES:
        for n, cell in enumerate(story.cells):
            held = cell.held
            seen = (held.runs, held.study, held.exports, held.latest, held.events, held.replaced)
            rows.append((story.title if n == 0 else "", cell.does.words, *(text or "-" for text in seen)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
