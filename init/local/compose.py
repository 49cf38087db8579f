"""`make compose-env`: the .env file that docker compose reads, with random passwords."""

from __future__ import annotations

import base64
import os
import secrets

from init.local.console import detail, say
from init.local.errors import SetupError
from init.local.layout import Layout
from init.local.passwords import write_private

PASSWORDS = (
    "TUNING_DB_ROOT_PASSWORD",
    "TUNING_DB_PASSWORD",
    "TUNING_AIRFLOW_DB_PASSWORD",
    "TUNING_API_SECRET",
    "TUNING_JWT_SECRET",
    "TUNING_ADMIN_PASSWORD",
    "TUNING_VIEWER_PASSWORD",
)


def write_environment(layout: Layout) -> None:
    """Writes .env; never over one that is there, because the database keeps the passwords it was made with.

    Raises:
        SetupError: There is a .env already.
    """
    file = layout.root / ".env"
    if file.exists():
        raise SetupError(f"{file} exists: keep it, or remove it together with the volumes (docker compose down -v)")
    # Letters and digits only: the values are pasted into URLs and JSON.
    values = {name: secrets.token_hex(24) for name in PASSWORDS}
    values["TUNING_FERNET_KEY"] = base64.urlsafe_b64encode(os.urandom(32)).decode()
    write_private(file, "".join(f"{name}={value}\n" for name, value in values.items()))
    say(f"wrote {file}, readable by you alone")
    detail("now: docker compose up; Airflow at http://127.0.0.1:8080, user admin, TUNING_ADMIN_PASSWORD in .env")
