"""The text of a DAG's page in Airflow: its study, and how a run goes."""

from __future__ import annotations

import re

from optuna_spark.spec.conditions import condition_text
from tuning_pipeline.study_file.study_file import StudyFile

HOW = """\
Airflow decides when and with what, Spark runs the trials, the database remembers the study.

| Task | What it does |
| --- | --- |
| `provision_database` | waits for MySQL, makes database, account and tables; waits while another run has the study |
| `prepare_study` | creates, resumes or resets the study |
| `tune` | runs the trials on the cluster; its log shows progress every few seconds |
| `export_best_trials` | writes the best trials and a report, and publishes the best parameters as an asset |

**Trigger** opens a form with the defaults of the study file. *Mode* says what happens to a study that exists: `resume`
goes on with it, `reset` starts again and keeps it under another name, `create` refuses to touch it. The run's tab *Best
trials* shows where the run stands, and its report once it ended well.

A study with a `retune.rule` asks `decide_retune` first: a run that nobody asked for is skipped when there is nothing
new, and the task's log and the run's tab *Best trials* say why.

A failed task ends with a card: what happened, why, what to do. Trials that finished are kept: run again with `resume`.
"""


def study_doc(study: StudyFile) -> str:
    """Markdown: data, search space, objective and schedule of this study, then how a run goes.

    Everybody who sees the DAG sees it; a study file holds no secrets. Airflow takes a DAG with another text for another
    version of the DAG. So what changes with each run, such as the last best value, is in the tab, and not here.
    """
    settings = study.settings
    facts = {
        "Objective": f"{code(settings.objective)}, {', '.join(settings.directions)}",
        "Data": code(settings.data.location if settings.data is not None else "none"),
        "Trials a run": f"{settings.trials}, {settings.tasks} at a time, on target {code(settings.target)}",
        "Sampler, pruner": f"{plain(settings.sampler.name)}, {plain(settings.pruner.name)}",
        "Schedule": code(settings.schedule) if settings.schedule else "none: triggered by hand or by an asset",
        "Last best": "in the tab *Last best* of this page",
        "Study file": code(study.path.name),
    }
    if settings.retune.assets:
        facts["Also run when"] = f"one of {', '.join(map(code, settings.retune.assets))} is updated"
    heading = f"### Tune study {plain(settings.study)}"
    lines = [heading, "", *(f"- **{name}**: {value}" for name, value in facts.items()), ""]
    return "\n".join([*lines, *_search_space(study), "", HOW])


def _search_space(study: StudyFile) -> list[str]:
    space = study.to_spec("doc").search_space
    if not space:
        return ["The objective defines its search space as it runs."]
    rows = ["| Parameter | Type | Values |", "| --- | --- | --- |"]
    for name, param in space.items():
        if param.type == "categorical":
            values = ", ".join(plain(str(choice)) for choice in param.choices)
        else:
            step = f", step {param.step:g}" if param.step else ""
            values = f"{param.low:g} to {param.high:g}{step}{', logarithmic' if param.log else ''}"
        if param.when:
            values += f", when {plain(condition_text(param))}"
        cell = code(name).replace("|", "\\|")  # a table's cell ends at a pipe, in a span of code as well
        rows.append(f"| {cell} | {param.type} | {values} |")
    return rows


def code(text: str) -> str:
    """A text as a span of code, whatever it holds: https://spec.commonmark.org/0.31.2/#code-spans."""
    line = " ".join(text.split()) or " "
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    inside = f" {line} " if line.startswith("`") or line.endswith("`") else line
    return f"{fence}{inside}{fence}"


def plain(text: str) -> str:
    """A text that Markdown shows as it is, in a line or a table's cell."""
    return re.sub(r"([\\`*_{}\[\]<>()#|~&!])", r"\\\1", " ".join(text.split()))
