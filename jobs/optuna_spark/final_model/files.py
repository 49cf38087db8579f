"""What the folder of a final model holds. A further format, such as MLflow's, is a further entry here.

model.ubj or model.joblib   the model
model_card.json             what it is, from what, and how good
input_example.json          a few training rows, by column
test_predictions.json       what the report draws of its predictions of the test rows
requirements.txt            what loading it needs
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from typing import Any

from optuna_spark.objectives.trained_model import TrainedModel, pinned
from optuna_spark.spec.model import ModelOrder
from optuna_spark.spec.tuning import TuningSpec

CARD = "model_card.json"


def model_files(model: TrainedModel, spec: TuningSpec, order: ModelOrder) -> dict[str, bytes]:
    """The files of the model's folder, by name."""
    needs = pinned(model.packages)
    files = {
        model.file: model.content,
        CARD: _json(model_card(model, spec, order, needs)),
        "requirements.txt": "".join(f"{name}=={version}\n" for name, version in needs.items()).encode(),
    }
    if not spec.errors_may_quote:  # a run's form gave the path, and nothing of that file shows anywhere
        return files
    if model.test_plot:
        files["test_predictions.json"] = _json(model.test_plot)
    if model.example:
        columns = list(model.example)
        rows = [list(row) for row in zip(*model.example.values(), strict=True)]
        files["input_example.json"] = _json({"columns": columns, "data": rows})
    return files


def model_card(model: TrainedModel, spec: TuningSpec, order: ModelOrder, needs: Mapping[str, str]) -> dict[str, Any]:
    """The content of model_card.json."""
    tests = model.test_values or (None,) * len(order.values)
    return {
        "name": (spec.model.name if spec.model is not None else None) or spec.study_name,
        "study": spec.study_name,
        "run_id": order.about.get("run_id"),
        "run_key": order.about.get("run_key"),
        "found_by": order.about.get("found_by"),
        "trial": order.trial,
        "objective": spec.objective,
        "file": model.file,
        "features": [{"name": name, "type": kind} for name, kind in model.features],
        "label": model.label,
        "classes": list(model.classes),
        "metrics": [
            {"name": name, "direction": direction, "validation": value, "test": test}
            for name, direction, value, test in zip(order.metrics, spec.directions, order.values, tests, strict=True)
        ],
        "importances": [{"feature": name, "value": value} for name, value in model.importances.items()],
        "params": order.params,
        "fixed": order.fixed,
        "rounds": model.rounds,
        "rows": {"training": model.rows, "test": model.test_rows},
        "data": order.about.get("data"),
        "git_commit": order.about.get("git_commit"),
        "versions": {"python": platform.python_version(), **needs},
        "trial_versions": order.about.get("versions"),
        "modules": list(model.modules),
        **model.more,
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n").encode()
