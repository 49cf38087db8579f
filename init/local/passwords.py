"""The generated secrets of this checkout, in a file that only its owner can read."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

DATABASE = "TUNING_DB_PASSWORD"
DATABASE_ADMIN = "TUNING_DB_ADMIN_PASSWORD"
FERNET = "AIRFLOW__CORE__FERNET_KEY"


def load_or_create(file: Path) -> dict[str, str]:
    """Reads the secrets, and generates those that are missing."""
    known = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line) if file.exists() else {}
    fresh = {
        DATABASE: secrets.token_urlsafe(24),
        DATABASE_ADMIN: secrets.token_urlsafe(24),
        FERNET: base64.urlsafe_b64encode(os.urandom(32)).decode(),
    }
    complete = fresh | known
    if complete != known:
        write_private(file, "".join(f"{name}={value}\n" for name, value in complete.items()))
    return complete


def write_private(file: Path, text: str) -> None:
    """Writes a file that only its owner can read, from its first moment on."""
    new = file.with_name(file.name + ".new")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as output:
        output.write(text)
    new.replace(file)
