"""The data that comes with the package. importlib.resources finds it in a folder and in the zip it travels as."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files


@cache
def temperatures() -> list[float]:
    """Temperatures of 60 days, made up."""
    text = files("several_files").joinpath("temperatures.json").read_text(encoding="utf-8")
    return [float(value) for value in json.loads(text)]
