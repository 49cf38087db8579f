"""The command line of jobs/tune.py: what it finds out about a table that it is given."""

from __future__ import annotations

import bz2
import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from optuna_spark.entry.command_line import parser, spec_from_arguments


def separator_of(file: Path) -> str:
    data = spec_from_arguments(parser().parse_args(["--filepath", str(file)])).data
    assert data is not None
    return data.separator


PACKERS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "gz": lambda text: gzip.compress(text.encode()),
    "bz2": lambda text: bz2.compress(text.encode()),
    "utf-16": lambda text: text.encode("utf-16"),
}


@pytest.mark.parametrize("kind", PACKERS)
def test_the_separator_is_found_in_the_text_and_not_in_compressed_bytes(tmp_path: Path, kind: str) -> None:
    chance, file, found = random.Random(1), tmp_path / "t.csv", set()  # no secret
    for _ in range(50):
        rows = "".join(f"{chance.random()};{chance.random()}\n" for _ in range(20))
        file.write_bytes(PACKERS[kind]("first name;y\n" + rows))
        found.add(separator_of(file))
    assert found == {";"}


@pytest.mark.parametrize("content", [b"", b"PAR1\0\0;;", b"\x1f\x8b broken", b"a"])
def test_what_has_no_clear_separator_has_a_comma(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    assert separator_of(tmp_path / "t") == separator_of(tmp_path / "none.csv") == ","
