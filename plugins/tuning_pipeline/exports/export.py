"""Exports a study: writes its tables, the parameters to use, and a report into a folder.

exports/<study>/<run id>/   best_params.json  best_trials.{csv,json,parquet}  trials.{csv,parquet}  report.html  model/
exports/<study>/latest      -> the newest of these folders
exports/plotly-<version>.min.js, where studies ask for a shared script

This module takes a second to import (Arrow, Plotly). Import it in the task that needs it, not in a DAG file.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from optuna_spark.errors import ExportError
from optuna_spark.results.best import best_params, best_trials
from optuna_spark.results.snapshot import snapshot
from optuna_spark.results.trial_rows import Column, trial_columns, trial_records, trial_rows
from tuning_pipeline.exports.ended_early import EndedEarly
from tuning_pipeline.exports.final_model import MODEL
from tuning_pipeline.exports.folders.paths import export_folder, exports_base
from tuning_pipeline.exports.folders.whole_folders import local_path, publish_folder, publish_latest
from tuning_pipeline.exports.honest_score import score_facts
from tuning_pipeline.exports.report.plotly_script import publish_script
from tuning_pipeline.exports.report.report import render_report
from tuning_pipeline.exports.spreadsheet import guarded
from tuning_pipeline.exports.training_facts import with_facts

if TYPE_CHECKING:
    import optuna
    from airflow.sdk import ObjectStoragePath
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

BEST_PARAMS = "best_params.json"

_ARROW_TYPES = {
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "text": pa.string(),
    "datetime": pa.timestamp("us"),
}


def export_study(
    study: optuna.Study,
    base: ObjectStoragePath | str | Path,
    run_id: str,
    top_k: int = 10,
    *,
    run_key: str = "",
    latest: bool = True,
    ended: EndedEarly | None = None,
    facts: Callable[[str], Mapping[str, Any]] = lambda _run: {},
    shared_script: bool = False,
    model: Callable[[Mapping[str, Any]], Mapping[str, bytes]] = lambda _best: {},
    tested: bool = False,
) -> dict[str, Any]:
    """Write the results of a study to `<base>/<study>/<run id>/`, and let `<base>/<study>/latest` lead to them.

    The folder appears complete or not at all. The same `run_id` again replaces it.

    Args:
        study: The study. It is read once and not changed.
        base: The folder of all exports: a path, or the URL of an object store.
        run_id: The run's id, for example Airflow's. `folder_name` makes a folder's name of it.
        top_k: How many trials best_trials.* hold at most. A Pareto front is always complete.
        run_key: The key of the run, which its trials have; by default the same as `run_id`.
        latest: Whether `latest` should lead to this folder.
        ended: How the run ended before its trials were spent, if it did.
        facts: What best_params.json says of the run that found the best trial, by that run (see `facts_for`).
        shared_script: Whether the report loads its script from a file beside all exports.
        model: The files of the final model, by name, for the content of best_params.json; empty without one.
        tested: Whether the study keeps test rows back.

    Returns:
        The content of best_params.json, and `folder`, the folder that was written. Plain data for an XCom or an asset
        event.

    Raises:
        ExportError: The study has no complete trial, or the folder cannot be written.
    """
    # All contents are made before the first one is written: a study that cannot be exported changes nothing.
    files = export_files(
        snapshot(study),
        run_id,
        top_k,
        run_key or run_id,
        facts,
        shared_script=shared_script,
        ended=ended,
        model=model,
        tested=tested,
    )
    folder = export_folder(base, study.study_name, run_id)
    try:
        if shared_script:
            publish_script(exports_base(base))
        publish_folder(folder, files, marker=BEST_PARAMS)
        if latest:  # second, so that `latest` never leads to an incomplete folder
            publish_latest(folder, files)
    except OSError as error:
        raise ExportError(
            f"cannot write the exports to {folder}: {error}; check the folder's permissions and free space"
        ) from error
    shown = str(local_path(folder) or folder)
    log.info("Exported %s files of study %s to %s", len(files), study.study_name, shown)
    return {**json.loads(files[BEST_PARAMS]), "folder": shown}


def export_files(
    study: optuna.Study,
    run_id: str,
    top_k: int,
    run_key: str,
    facts: Callable[[str], Mapping[str, Any]],
    *,
    shared_script: bool = False,
    ended: EndedEarly | None = None,
    model: Callable[[Mapping[str, Any]], Mapping[str, bytes]] = lambda _best: {},
    tested: bool = False,
) -> dict[str, bytes]:
    """The contents of an export's files, by name. Writes nothing."""
    params = best_params(study, run_id)
    params = with_facts(params, facts(params["found_by"]))
    of_model = model(params)
    params |= score_facts(params, of_model, tested)
    if ended is not None:
        params |= {"ended_early": ended.why, "partial": ended.failed}
    note = ended.note if ended is not None else ""
    report = render_report(
        study,
        run_id,
        top_k,
        run_key,
        note=note,
        score_note=params["score_note"] or "",
        test_values=params["test_values"] or (),
        model=of_model,
        shared_script=shared_script,
    )
    best = best_trials(study, top_k)
    trials = study.get_trials(deepcopy=False)
    columns = trial_columns(trials, len(study.directions))
    return {
        BEST_PARAMS: _json(params),
        "best_trials.json": _json(trial_records(best)),
        **_tables("best_trials", best, columns),
        **_tables("trials", trials, columns),
        "report.html": report.encode(),
        **{f"{MODEL}/{name}": content for name, content in of_model.items()},
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _tables(name: str, trials: list[FrozenTrial], columns: list[Column]) -> dict[str, bytes]:
    rows = trial_rows(trials, columns)
    return {f"{name}.csv": _csv(rows, columns), f"{name}.parquet": _parquet(rows, columns)}


def _csv(rows: list[dict[str, Any]], columns: list[Column]) -> bytes:
    out = _Lines()
    writer = csv.writer(out)
    writer.writerow([guarded(c.name) for c in columns])
    writer.writerows([_cell(row[c.name]) for c in columns] for row in rows)
    return out.text.getvalue().encode()


class _Lines:
    """Collects lines with Unix line ends.

    csv.writer could write these itself (lineterminator), but then it would not quote a carriage return in a cell.
    """

    def __init__(self) -> None:
        self.text = io.StringIO(newline="")

    def write(self, line: str) -> int:
        return self.text.write(line.removesuffix("\r\n") + "\n")


def _cell(value: Any) -> str | None:
    text = _text(value)
    return text if text is None else guarded(text)


def _parquet(rows: list[dict[str, Any]], columns: list[Column]) -> bytes:
    # Arrow imports pandas (which takes a second) to convert Python objects, but not to parse JSON. JSON has no
    # infinity, so every value goes in as text and Arrow converts it. Python's text of a float is exact.
    lines = "\n".join(json.dumps({name: _text(value) for name, value in row.items()}) for row in rows)
    texts = pa.schema([(c.name, pa.string()) for c in columns])
    table = pa_json.read_json(
        io.BytesIO(lines.encode()),
        read_options=pa_json.ReadOptions(block_size=len(lines) + 1),  # Arrow refuses a line longer than a block
        parse_options=pa_json.ParseOptions(explicit_schema=texts, unexpected_field_behavior="error"),
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table.cast(pa.schema([(c.name, _ARROW_TYPES[c.kind]) for c in columns])), sink)
    return bytes(sink.getvalue().to_pybytes())


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else repr(value)
