"""The init scripts as they are sent to a workspace. Each is one file that contains everything it needs.

A script in the workspace cannot read other files there, and the folder that Databricks runs it in is not defined:
https://docs.databricks.com/en/init-scripts/referencing-files.html
"""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from optuna_spark.objectives.registry import BUILT_IN, kind_of
from optuna_spark.spec.tuning import TuningSpec
from tuning_pipeline.targets.package import cluster_file

SCRIPTS = "init/databricks"
# The script that every node needs. With each script stand the lock files that it installs from.
EVERY_NODE: Mapping[str, tuple[str, ...]] = {"init_optuna.sh": ("databricks",)}
LOCKS = {**EVERY_NODE, **{name: locks for kind in BUILT_IN.values() for name, locks in kind.init_scripts.items()}}
# The files go right after this line, which is the first one in each script that is not a comment.
_PLACE = "set -euo pipefail\n"


def init_scripts(spec: TuningSpec) -> dict[str, bytes]:
    """The init scripts for this spec, by name, in the order they run."""
    return {name: init_script(name) for name in (*EVERY_NODE, *kind_of(spec.objective).init_scripts)}


def init_script(name: str) -> bytes:
    """An init script that carries the lock files it installs from, and the program that installs them."""
    files = [cluster_file(f"{SCRIPTS}/install_locked.py")]
    files += [cluster_file(f"requirements/{lock}.{kind}") for lock in LOCKS[name] for kind in ("in", "txt")]
    carried = f"carried() {{ # folder\n    base64 -d <<'END' | tar -xz -C \"$1\"\n{_archive(files)}END\n}}\n"
    text = cluster_file(f"{SCRIPTS}/{name}").read_text(encoding="utf-8")
    return text.replace(_PLACE, _PLACE + carried, 1).encode()


def _archive(files: list[Path]) -> str:
    """A compressed tar archive as text. Equal content gives equal text."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in files:
            content = _without_comments(file) if file.suffix == ".txt" else file.read_bytes()
            entry = tarfile.TarInfo(file.name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return base64.encodebytes(gzip.compress(buffer.getvalue(), mtime=0)).decode()


def _without_comments(lock: Path) -> bytes:
    lines = lock.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.lstrip().startswith("#")).encode()
