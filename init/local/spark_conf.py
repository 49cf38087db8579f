"""What Spark's programs get: a private configuration folder with the cluster's secret, and few variables."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Mapping
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

from init.local.errors import SetupError
from init.local.layout import REPOSITORY
from init.local.passwords import write_private

SCRIPTS = REPOSITORY / "init" / "spark"
FURTHER_VARIABLE = "TUNING_SPARK_ENVIRONMENT"


def conf_dir(state: Path) -> Path:
    """The configuration folder of a state folder's cluster, for SPARK_CONF_DIR."""
    return state / "spark" / "conf"


def scratch_dir(state: Path) -> Path:
    """The folder for temporary files of the cluster's Java programs, executors and drivers."""
    return state / "spark" / "tmp"


def write_conf(state: Path) -> str:
    """Writes the configuration, with a secret that is generated once. Returns a digest of the configuration.

    Raises:
        SetupError: The file of the secret holds something that is no secret.
    """
    secret = state / "spark" / "secret"
    secret.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    if not secret.exists():
        write_private(secret, secrets.token_hex(32) + "\n")
    own = {name: value for name, value in os.environ.items() if name != "SPARK_CONF_DIR"}
    command = [SCRIPTS / "make-conf.sh", conf_dir(state), secret, scratch_dir(state)]
    made = subprocess.run(command, env=own, capture_output=True, text=True)
    if made.returncode != 0:
        raise SetupError(made.stderr.strip())
    files = sorted(file for file in conf_dir(state).iterdir() if ".new." not in file.name)
    return sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def kept_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that Spark's programs, and so the trials, may see of an environment (see environment.txt)."""
    patterns = [*_listed("all"), *environment.get(FURTHER_VARIABLE, "").replace(",", " ").split()]
    return {n: v for n, v in environment.items() if any(fnmatchcase(n, pattern) for pattern in patterns)}


def _listed(who: str) -> list[str]:
    lines = [line.split() for line in (SCRIPTS / "environment.txt").read_text().splitlines()]
    return [words[1] for words in lines if words and words[0] == who]
