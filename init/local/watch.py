"""Picks the few lines that a person wants to see from Airflow's log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

# structlog adds this after a message: the logger's name, then key=value pairs, the last of which is loc=.
LOG_TAIL = re.compile(r" +\[[\w.]+\](?: [\w.]+=.*?)? loc=\S+(?: [\w.]+=.*)?$")
STARTING = re.compile(r"\[DAG TEST\] starting task_id=(\S+)")
ENDED = re.compile(r"\[DAG TEST\] end task task_id=(\S+)")
NEW_STATE = re.compile(r"Task instance state updated .*\bnew_state=(\w+)")
BROKEN_DAG = re.compile(r"Error loading DAG from (\S+): (.*)")
EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception|Timeout|Failed|NotFound|Interrupt)\b.*")
# Logged by tuning_pipeline.exports.export.
EXPORTED = re.compile(r"\bExported \d+ files of study \S+ to (.+)$")
PROGRESS = "[tuning]"
CARD = ("┌", "│", "└")


class RunWatcher:
    """Reads Airflow's log line by line, and shows stages, progress and failure cards.

    Args:
        show: Takes one line for the person.
        clock: Seconds of a monotonic clock, for the time that each stage takes.

    Attributes:
        exported: Folder or URL of the run's exports; None until it has written them.
    """

    def __init__(self, show: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._show = show
        self._clock = clock
        self._stage = ""
        self._since = clock()
        self._state = "success"
        self.saw_card = False
        self.last_exception = ""
        self.broken_dags: dict[str, str] = {}
        self.exported: str | None = None

    def feed(self, line: str) -> None:
        text = line.rstrip("\n")
        if PROGRESS in text:
            self._show("   " + LOG_TAIL.sub("", text[text.index(PROGRESS) + len(PROGRESS) :]).strip())
        elif self._is_card(text):
            self.saw_card = True
            self._show(LOG_TAIL.sub("", text))
        elif started := STARTING.search(text):
            self._begin(started[1])
        elif state := NEW_STATE.search(text):
            self._state = state[1]
        elif ENDED.search(text):
            self._end()
        elif exported := EXPORTED.search(LOG_TAIL.sub("", text)):
            self.exported = exported[1].strip()
        elif broken := BROKEN_DAG.search(LOG_TAIL.sub("", text)):
            self.broken_dags[broken[1]] = broken[2]
        elif EXCEPTION.match(text):
            self.last_exception = text

    def _is_card(self, text: str) -> bool:
        return text.startswith(CARD)

    def _begin(self, task: str) -> None:
        self._stage, self._since, self._state = task, self._clock(), "success"
        self._show(f"== {_words(task)}")

    def _end(self) -> None:
        seconds = self._clock() - self._since
        if self._state == "success":
            self._show(f"   done in {seconds:.1f} s")
        elif self._state == "up_for_retry":
            self._show(f"   failed after {seconds:.1f} s, will be tried again")
        else:
            self._show(f"   {self._state.replace('_', ' ')} after {seconds:.1f} s")


def _words(task: str) -> str:
    return task.replace("_", " ")
