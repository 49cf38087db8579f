"""What a run has to know and nobody else may: it travels beside the spec, in a file that is read once, then in memory.

Standard library only, like the spec.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from optuna_spark.errors import SpecError
from optuna_spark.spec.decode import from_dict, to_dict


@dataclass(frozen=True)
class DataSecrets:
    """What opens the training table, beside its DataSpec.

    Attributes:
        authorization: Header of the request for a URL, `Basic ...` or `Bearer ...`; the workers need it.
        options: Spark reader options; the driver needs them.
        store: What opens an object store (data/stores/opening.py has the names); whoever reads it needs them.
        seen: Version of the files in an object store that the driver saw first; workers train on no other. Empty: it
            saw none.
    """

    authorization: str = field(default="", repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)
    store: dict[str, str] = field(default_factory=dict, repr=False)
    seen: str = ""

    def removed_from(self, text: str) -> str:
        """A text, such as Spark's words about a table it cannot read, without them."""
        for value in (self.authorization, *self.options.values(), *self.store.values()):
            text = text.replace(value, "***") if len(value) > 3 else text
        return text


@dataclass(frozen=True)
class TrackingSecrets:
    """How to reach the MLflow server that `tracking.mlflow` names; for the driver only.

    Attributes:
        uri: Its address, without a login.
        login: Name of the account; empty for a token.
        password: Its password, or the token; empty for a server that asks for none.
    """

    uri: str
    login: str = field(default="", repr=False)
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class RunSecrets:
    """The secrets of a run.

    Attributes:
        data: What opens the table.
        conf: Spark properties that must show nowhere.
        tracking: The MLflow server, where the study names one.
    """

    data: DataSecrets = field(default_factory=DataSecrets)
    conf: dict[str, str] = field(default_factory=dict, repr=False)
    tracking: TrackingSecrets | None = None

    def to_json(self) -> str:
        """What `take_secrets` reads."""
        return json.dumps(to_dict(self))


def take_secrets(path: Path) -> RunSecrets:
    """Read the secrets of a run and remove their file.

    Raises:
        SpecError: It is missing or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        path.unlink()
        return from_dict(RunSecrets, json.loads(text))
    except OSError as error:
        raise SpecError(f"the run's secrets in {path} cannot be read: {error.strerror}; start the run again") from None
    except (ValueError, SpecError):
        raise SpecError(f"{path} does not hold a run's secrets; start the run again") from None


def problem_of_endpoint(url: str) -> str | None:
    """Why the keys of a store may not go to this address; None if they may: over https, or to this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.path.strip("/") or parts.query:
        return "must be https://<host> or https://<host>:<port>, without a login or a path"
    if parts.scheme == "http" and not _is_loopback(host):
        return "must be https://, since over http:// anyone on the way reads the table (http:// is for this machine)"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
