"""A spark-submit for tests that are not about Spark: runs the program on this machine, without Spark and Java.

The program is the real one, jobs/tune.py, in the Spark environment; so are the spec it is given, but for `distribution`
(`local`: workers as plain processes), and the study in its database. It ends with whoever submitted it, as under the
project's own spark-submit.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# Of what SparkSubmitHook passes, all others have a value.
FLAGS = {"--verbose"}


def install(folder: Path) -> None:
    """Put it into a folder, as `spark-submit`."""
    folder.mkdir(parents=True)
    program = folder / "spark-submit"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P "{Path(__file__).resolve()}" "$@"\n')
    program.chmod(0o755)


def split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """spark-submit's own options, and the program with its arguments."""
    options, rest = {}, list(arguments)
    while rest[0].startswith("--"):
        name = rest.pop(0)
        options[name] = "" if name in FLAGS else rest.pop(0)
    return options, rest


def make_local(spec_file: Path) -> None:
    spec = json.loads(spec_file.read_text())
    spec_file.write_text(json.dumps(spec | {"distribution": "local"}))


def environment(options: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    files = [Path(name) for name in options["--py-files"].split(",")]
    paths = [str(file.parent if file.suffix == ".py" else file) for file in files]
    return own | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def main(arguments: Sequence[str]) -> None:
    options, program = split(arguments)
    make_local(Path(program[program.index("--spec-file") + 1]))
    python = Path(os.environ["TUNING_SPARK_ENV"], "bin", "python")
    command = ["setpriv", "--pdeathsig", "TERM", str(python), *program]
    os.execvpe(command[0], command, environment(options))


if __name__ == "__main__":
    main(sys.argv[1:])
