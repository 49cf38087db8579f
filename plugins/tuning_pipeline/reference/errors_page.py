"""The reference page of errors, as Markdown: what each means, and what to do."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from optuna_spark import errors
from optuna_spark.errors import TuningError
from tuning_pipeline.targets.registry import KINDS
from tuning_pipeline.targets.target import load_target

HEAD = """\
# Errors

A task that fails for a reason that a person can mend ends its log with a card: *What* happened, *Why*, what to do
*Next*, and *Where* to look. *What* is always a sentence with the rule and the value. The tables list the kinds, with
the card's next step, and whether Airflow tries the task again. This page is written by `make reference`.

## Of the engine, on every target

| Kind | What it means | Next | Tried again |
|---|---|---|---|
"""
OF_TARGET = """
## Of target {name}

What the platform reports where the driver cannot say it itself. The first row that fits counts.

| What | Next | Tried again |
|---|---|---|
"""


def errors_page() -> str:
    """The text of docs/errors.md."""
    parts = [HEAD, *(_row(f"`{kind.__name__}`", _meaning(kind), kind.next, _again(kind.retry)) for kind in _kinds())]
    for name, kind in KINDS.items():
        if not (rules := load_target(kind).failures):
            continue
        parts.append(OF_TARGET.format(name=name))
        parts += [_row(rule.what, rule.next, _again(rule.retry)) for rule in rules]
    return "".join(parts)


def _kinds() -> Iterator[type[TuningError]]:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, TuningError) and kind is not TuningError:
            yield kind


def _meaning(kind: type[TuningError]) -> str:
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _again(retry: bool) -> str:
    return "yes" if retry else "no"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "\\<") for cell in cells) + " |\n"
