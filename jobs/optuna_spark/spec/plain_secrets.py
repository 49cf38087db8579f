"""Finds secrets written in plain text into a study: by the name of an option, and by what a text looks like.

Everybody who sees the DAG can read a study file, and Spark properties stand in the process list. No error here quotes a
value. What it cannot know is a secret that looks like any other word under a name that says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from optuna_spark.errors import SpecError

# Databricks resolves it on the cluster.
SECRET_REFERENCE = re.compile(r"\{\{secrets/[A-Za-z0-9_@.-]+/[A-Za-z0-9_.-]+\}\}")

# Sections whose keys are options of Spark or a cluster.
_OPTIONS = ("data.format_options", "spark.conf", "databricks.cluster")
# Sections with words of the user's own, where `token=1` means something else.
_FREE = (
    "description", "tags", "owner", "search_space", "enqueue", "sampler", "pruner", "objective_section", "data.label",
)  # fmt: skip

_KEY_WORDS = "access|account|private|api|shared|signing|encryption|storage|master|auth|secret"
# What follows a word such as `password` where the value is no secret: spark.authenticate.secret.file.
_AFTERWARDS = (
    "files?|path|location|dir|folder|provider|binding|type|class|enabled|bit|bits|length|size|expiry|endpoint|url|uri"
    "|format|alias|name|id|scope|mode|timeout|interval|ttl|renewal|regex|column|columns|algorithm|version|required"
)
_SECRET_NAME = re.compile(
    r"(?:^|-)(?:[a-z0-9]*(?:password|passwd|passphrase|secret|token)|pass|pwd|credentials?|sas(?!-token-provider)"
    rf"|sig|signature|jwt|(?:{_KEY_WORDS})-?key)(?:$|-(?!(?:{_AFTERWARDS})(?:$|-)))"
)
_PLAIN_VALUE = re.compile(r"|true|false|none|null|ccache|keytab|arn:\S+|\*+|\$\{[^}]*\}", re.IGNORECASE)

_FORMATS = (
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")),
    ("a private key", re.compile(r"(?<![\w+/])(?:eyJ0eXBlIjoi|ewog{1,2}ICJ0eXBlIjo)[\w+/=]{40,}")),  # JSON in base64
    ("a signed token", re.compile(r"(?<![\w.-])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")),
    ("a key of AWS", re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])")),
    ("a key of Azure Storage", re.compile(r"(?<![\w+/=])[A-Za-z0-9+/]{86}==(?![\w+/=])")),
    (
        "an access token",
        re.compile(
            r"(?<![A-Za-z0-9])(?:gh[pousr]_\w{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|dapi[0-9a-f]{32}|AIza[\w-]{35}"
            r"|ya29\.[\w-]{20,}|xox[abprs]-[\w-]{10,}|hf_[A-Za-z0-9]{30,})"
        ),
    ),
    # A colon that no port follows: what stands between it and the @ is a password.
    (
        "a password in an address",
        re.compile(r"//[^/?#\s@\[\]]*:(?!\d{0,5}(?:[/?#,\s]|$))(?!@)(?!\{\{secrets/|\$\{)[^\s]*@"),
    ),
    ("a password in an address", re.compile(r"jdbc:oracle:[a-z]+:[^/@\s]+/[^@\s]+@")),
    ("a login in an address", re.compile(r"https?://[^/?#\s@:]+@", re.IGNORECASE)),
)
_OPTION_FORMATS = (
    ("a key of AWS", re.compile(r"^(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[A-Za-z0-9/+]{40}$")),
    ("a login", re.compile(r"^(?:Basic|Bearer)\s+(?!\{\{secrets/)\S{6,}$", re.IGNORECASE)),
)
# name=value and "name": "value"; in a JDBC address a slash or colon may stand before the name.
_PAIR = re.compile(r"""(?:^|[\s?&;,'"({]|-D)([A-Za-z][\w.-]*)(?:\s*=\s*|["']\s*:\s*)["']?([^\s"'&;,]*)""")
_JDBC_PAIR = re.compile(r"""[?&;,:/(]([A-Za-z][\w.-]*)=([^\s&;,)]*)""")


@dataclass(frozen=True)
class Finding:
    """A secret in plain text.

    Attributes:
        key: Dotted key under which it stands.
        reason: What gave it away; never the value.
    """

    key: str
    reason: str


def refuse_plain_secrets(document: object, free: Iterable[str] = ()) -> None:
    """Check what a study says, whatever its form.

    Args:
        document: As read from YAML or a form.
        free: Further sections with words of the user's own: those of objectives.

    Raises:
        SpecError: Naming the key, the rule and the way that works.
    """
    found = next(find_secrets(document, free=(*_FREE, *free)), None)
    if found is None:
        return
    on_databricks = isinstance(document, Mapping) and document.get("target") == "databricks"
    raise SpecError(
        f"{found.reason}, and others can read what a study file or form says: {_way(found.key, on_databricks)}",
        found.key,
    )


def find_secrets(value: object, key: str = "", free: Sequence[str] = _FREE) -> Iterator[Finding]:
    """Every secret in a document, in the order in which it stands there."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if (reason := _look(str(name), key, free)) is not None:
                yield Finding(key, f"a key in it holds {reason}")
                continue
            yield from find_secrets(inner, f"{key}.{name}" if key else str(name), free)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from find_secrets(inner, f"{key}[{index}]", free)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield from _of_scalar(value, key, free)


def is_secret_name(name: str) -> bool:
    """Whether an option of this name holds a secret: `trustStorePassword` does, `tokenizer` does not."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "-", name).lower()
    return _SECRET_NAME.search(words) is not None


def holds_secret(name: str, value: str) -> bool:
    """Whether an option, of Spark or of a connection's extra, is secret by its name or by what it looks like."""
    return next(_of_scalar(value, f"{_OPTIONS[0]}.{name}"), None) is not None


def _of_scalar(value: str | float, key: str, free: Sequence[str] = _FREE) -> Iterator[Finding]:
    name = next((key[len(section) + 1 :] for section in _OPTIONS if _within(key, section)), "")
    if is_secret_name(name) and not _is_plain(str(value)):
        yield Finding(key, "its name looks like a secret")
    elif isinstance(value, str) and (reason := _look(value, key, free)) is not None:
        yield Finding(key, f"it holds {reason}")


def _look(text: str, key: str, free: Sequence[str]) -> str | None:
    """What a text holds that is secret, if anything."""
    formats = _FORMATS + (_OPTION_FORMATS if any(_within(key, section) for section in _OPTIONS) else ())
    found = next((reason for reason, pattern in formats if pattern.search(text)), None)
    if found is not None or any(_within(key, section) for section in free):
        return found
    pairs = _PAIR.findall(text) + (_JDBC_PAIR.findall(text) if "jdbc:" in text else [])
    names = [name for name, value in pairs if is_secret_name(name) and not _is_plain(value)]
    return f"a secret ({names[0]})" if names else None


def _is_plain(value: str) -> bool:
    return SECRET_REFERENCE.fullmatch(value) is not None or _PLAIN_VALUE.fullmatch(value) is not None


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith((f"{section}.", f"{section}["))


def _way(key: str, on_databricks: bool) -> str:
    if key.startswith("databricks") or (on_databricks and key.startswith(("data.", "spark."))):
        return "give it as {{secrets/<scope>/<key>}}, a secret of the workspace"
    if key.startswith("data"):
        return "put it into an Airflow connection, and name that one in data.connection"
    if key.startswith("spark"):
        return "put it into the extra of an Airflow connection, and name that one in spark.conf_connection"
    if key.startswith("exports"):
        return "name an Airflow connection in the URL, s3://<connection>@<bucket>/<folder>"
    return "remove it; a secret belongs into an Airflow connection"
