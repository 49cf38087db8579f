"""Why trials failed: the texts of their errors, grouped by what was raised and by the place in the user's code.

Imports the standard library only, because the Airflow side imports it too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

LONGEST = 300

_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)')
# What the worker says where it must not quote the error's text.
_PLACE_ONLY = re.compile(r"^(?P<error>\w+) in (?P<file>.+), line (?P<line>\d+) \(")
_LIBRARY = re.compile(r"/(site-packages|dist-packages|lib/python3\.\d+|optuna_spark|optuna_spark\.zip)/|^<frozen ")
_NUMBER = re.compile(r"\d+(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class FailureReason:
    """One reason for which trials failed.

    Attributes:
        count: How many trials.
        error: What was raised, as the newest of them says it.
        place: File and line in the user's code, such as `my_objective.py, line 12`; empty where none is known.
        trial: Number of the newest of them.
    """

    count: int
    error: str
    place: str
    trial: int

    def __str__(self) -> str:
        trials = "1 trial" if self.count == 1 else f"{self.count} trials"
        place = f" ({self.place})" if self.place else ""
        return f"{trials} failed: {self.error}{place}; the newest is trial {self.trial}"


def failure_reasons(errors: Iterable[tuple[int, str]]) -> list[FailureReason]:
    """Group errors, the most frequent first.

    Args:
        errors: Number of a trial and the text of its error, the newest first.
    """
    groups: dict[tuple[str, str], FailureReason] = {}
    for number, text in errors:
        error, place = raised(text), own_place(text)
        # At one place, errors of one class are one reason, whatever values they name; without a place, equal texts.
        key = (error.partition(":")[0] if place else _NUMBER.sub("#", error), place)
        known = groups.get(key)
        if known is None:
            groups[key] = FailureReason(1, error, place, number)
        else:
            groups[key] = FailureReason(known.count + 1, known.error, known.place, known.trial)
    return sorted(groups.values(), key=lambda reason: -reason.count)


def raised(text: str) -> str:
    """What was raised, in one line: of a traceback the line that names the exception."""
    lines = text.strip().splitlines()
    if not lines:
        return "no reason was given"
    if found := _PLACE_ONLY.match(lines[0]):
        return found["error"]
    frames = [place for place, line in enumerate(lines) if _FRAME.match(line)]
    after = lines[frames[-1] + 1 :] if frames else lines
    # A line of source, and marks below it, stand indented between the frame and the exception.
    named = next((line for line in after if line and not line[0].isspace()), lines[-1])
    return named if len(named) <= LONGEST else f"{named[:LONGEST]}..."


def own_place(text: str) -> str:
    """The last place in the user's own code that a traceback names: the file's name and the line."""
    if found := _PLACE_ONLY.match(text):
        places = [found]
    else:
        places = [found for line in text.splitlines() if (found := _FRAME.match(line))]
    own = [place for place in places if not _LIBRARY.search(place["file"])]
    return f"{own[-1]['file'].rpartition('/')[2]}, line {own[-1]['line']}" if own else ""
