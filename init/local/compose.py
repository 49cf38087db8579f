"""`make compose-env`: writes the containers' secrets, each into a file, and the .env that docker compose reads."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from init.local.console import detail, say
from init.local.layout import Layout
from init.local.passwords import write_private

FOLDER = ".secrets"
FOLDER_VARIABLE = "TUNING_SECRETS"
OTHERS_READ = 0o644


def _letters_and_digits() -> str:
    """A secret that needs no escaping in URLs and JSON, long enough as a key for Airflow's tokens (RFC 7518, 3.2)."""
    return secrets.token_hex(32)


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode()


# The file of each secret, and the function that makes a new one.
SECRETS: dict[str, Callable[[], str]] = {
    "db_root_password": _letters_and_digits,
    "db_password": _letters_and_digits,
    "airflow_db_password": _letters_and_digits,
    "api_secret": _letters_and_digits,
    "jwt_secret": _letters_and_digits,
    "fernet_key": _fernet_key,
    "admin_password": _letters_and_digits,
    "viewer_password": _letters_and_digits,
    "spark_secret": _letters_and_digits,
}


def write_environment(layout: Layout) -> None:
    """Makes the secrets that are missing, and names their folder in .env.

    An existing secret stays: the database keeps the passwords that it was made with. Secrets that an older version
    wrote into .env move to files.
    """
    folder, env_file = layout.root / FOLDER, layout.root / ".env"
    lines = env_file.read_text().splitlines() if env_file.exists() else []
    moved, kept = _sort_lines(lines)
    made = _write_missing(folder, moved)
    wanted = [*kept, f"{FOLDER_VARIABLE}=./{FOLDER}"]
    if lines != wanted:
        write_private(env_file, "".join(f"{line}\n" for line in wanted))
    _report(folder, made, len(moved))


def _sort_lines(lines: list[str]) -> tuple[dict[str, str], list[str]]:
    """Splits the lines of .env into the secrets, by the names of their files, and the lines that stay."""
    variables = {f"TUNING_{name.upper()}": name for name in SECRETS}
    moved, kept = {}, []
    for line in lines:
        variable, _, value = line.partition("=")
        if variable in variables:
            moved[variables[variable]] = value
        elif variable != FOLDER_VARIABLE:
            kept.append(line)
    return moved, kept


def _write_missing(folder: Path, moved: dict[str, str]) -> list[str]:
    """Writes the secrets that have no file yet. Returns the names of those that are new.

    Only the owner may enter the folder, but everybody may read the files in it: a container mounts a file alone, and
    its account has another id than ours.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    made = []
    for name, make in SECRETS.items():
        file = folder / name
        if not file.exists():
            # Without a line end, which Airflow would take as part of the secret.
            write_private(file, moved.get(name) or make())
            if name not in moved:
                made.append(name)
        file.chmod(OTHERS_READ)
    return made


def _report(folder: Path, made: list[str], moved: int) -> None:
    if moved:
        say(f"moved {moved} secrets from .env to files in {folder}, in a folder that is yours alone")
    if made:
        say(f"wrote {', '.join(made)} in {folder}, a folder that is yours alone")
    if not (made or moved):
        say(f"every secret is in {folder} already")
        detail("for new ones, remove it and the volumes, which keep the old passwords: docker compose down -v")
    detail(f"now: docker compose up; Airflow at http://127.0.0.1:8080, user admin, password in {FOLDER}/admin_password")
