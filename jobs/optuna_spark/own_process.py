"""Starts a module of this package as a process of its own that talks over a pipe.

It is not one of `multiprocessing`: those import the caller's script again, which some scripts do not survive. The
process gets its import path from the starter, and not the database's password.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from optuna_spark.database.url import URL_VARIABLE


def start(
    module: str, *, environment: Mapping[str, str] | None = None, quiet: bool = False
) -> tuple[Connection, subprocess.Popen[bytes]]:
    """Start the module, whose one argument is the number of its end of the pipe: `Connection(int(sys.argv[1]))`.

    Args:
        module: Its name.
        environment: Further variables.
        quiet: Whether what it writes to stderr is dropped.

    Returns:
        The starter's end of the pipe, and the process. It is in no group of the starter's: Ctrl-C and SIGTERM that are
        meant for the driver do not end it.
    """
    inherited = {name: value for name, value in os.environ.items() if name != URL_VARIABLE}
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if quiet else None,
            process_group=0,
            env=inherited | {"PYTHONPATH": path} | dict(environment or {}),
        )
    return ours, process
