"""Downloads a table from a URL once, and tells what a path with a scheme is on this machine."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import io
import logging
import os
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPMessage
from pathlib import Path
from typing import IO

from optuna_spark.data.files.reader_errors import fetch_words
from optuna_spark.errors import DataError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_secrets import DataSecrets

log = logging.getLogger(__name__)

TIMEOUT_S = 30
_BLOCK = 1 << 20
_AUTHORIZATION = "Authorization"


def plain_path(path: str) -> str:
    """A local path without its scheme: `file:/a`, `file:///a` and `dbfs:/a` become `/a`, `/a`, `/dbfs/a`.

    Raises:
        DataError: Only Spark can read files with this scheme.
    """
    scheme, separator, rest = path.partition(":/")
    if not separator or "/" in scheme:  # the ":/" is part of a file name
        return path
    rest = "/" + rest.lstrip("/")
    if scheme == "file":
        return urllib.parse.unquote(rest)
    if scheme == "dbfs":  # nodes mount DBFS at /dbfs, but Volumes at /Volumes
        return rest if rest.startswith("/Volumes/") else f"/dbfs{rest}"
    raise DataError(
        f"data.path {path!r} cannot be read by a worker itself: use distribution dataframe (Spark reads it),"
        " or a path or URL"
    )


def cache_folder() -> Path:
    """The folder of downloaded files: $TUNING_STATE/data, else this user's own folder in the temp folder.

    Raises:
        DataError: Another user has made a folder of that name.
    """
    state = os.environ.get("TUNING_STATE")
    if state:
        folder = Path(state) / "data"
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    folder = Path(tempfile.gettempdir()) / f"tuning-data-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Everybody may write to the temp folder, and another user could have put files there for us to train on.
    if folder.stat().st_uid != os.getuid():
        raise DataError(f"{folder} belongs to another user: set TUNING_STATE to a folder of your own")
    return folder


def cached_path(data: DataSpec) -> Path:
    """The path of a URL's file in the cache. Its name holds the digest, so that two versions do not collide."""
    name = urllib.parse.unquote(Path(urllib.parse.urlsplit(data.location).path).name) or "table"
    return cache_folder() / f"{(data.sha256 or '')[:16]}-{Path(name).name}"


def fetched_file(data: DataSpec, secrets: DataSecrets) -> Path:
    """The path of a URL's file on this machine, downloaded if it is not there yet.

    Raises:
        DataError: It cannot be fetched, or does not have the digest `data.sha256`.
    """
    path = cached_path(data)
    # One worker of a machine downloads the file, the others wait for it.
    with _locked(path.with_name(path.name + ".lock")):
        if not path.exists():
            _download(data, secrets, path)
        elif data.sha256 is not None:
            check_digest(path, data, data.sha256)
    return path


def _download(data: DataSpec, secrets: DataSecrets, path: Path) -> None:
    part = tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False)  # noqa: SIM115
    try:
        with part:
            _copy(data, secrets, path, part)
        if data.sha256 is not None:
            check_digest(Path(part.name), data, data.sha256, data.location)
        Path(part.name).replace(path)  # only a whole and checked file gets the name that others look for
    except BaseException:
        Path(part.name).unlink(missing_ok=True)
        raise


def _copy(data: DataSpec, secrets: DataSecrets, path: Path, target: IO[bytes]) -> None:
    log.info("Fetching %s to %s", data.location, path)
    request = urllib.request.Request(data.location)  # noqa: S310  # DataSpec.is_url
    # "Unredirected": urllib would otherwise send the login to wherever a redirect points. See _SameOrigin.
    if secrets.authorization:
        request.add_unredirected_header(_AUTHORIZATION, secrets.authorization)
    try:
        with urllib.request.build_opener(_SameOrigin).open(request, timeout=TIMEOUT_S) as source:
            while block := source.read(_BLOCK):
                target.write(block)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if data.connection and getattr(error, "code", None) in (401, 403):
            raise DataError(
                f"the server of {data.location} refuses the login of connection {data.connection!r}"
                f" ({fetch_words(error)}): correct it in Airflow"
            ) from None
        raise DataError(
            f"cannot fetch {data.location} ({fetch_words(error)}): download it by hand and save it as {path} on every"
            " Spark worker, or set data.path to a copy you can reach"
        ) from None


class _SameOrigin(urllib.request.HTTPRedirectHandler):
    """Follows redirects. Sends the login along only to the same scheme, host and port."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        login = req.get_header(_AUTHORIZATION)
        if following is not None and login and _origin(newurl) == _origin(req.full_url):
            following.add_unredirected_header(_AUTHORIZATION, login)
        return following


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def check_digest(path: Path, data: DataSpec, sha256: str, source: str = "") -> None:
    """Refuse a file of another content than the digest says.

    Raises:
        DataError: Naming `source`, if it was fetched from there, else the file.
    """
    with path.open("rb") as file:
        check_content(file, str(path), data, sha256, source)


def check_content(file: io.BufferedReader, name: str, data: DataSpec, sha256: str, source: str = "") -> None:
    """The same of an open file, wherever it is, whose name is `name`."""
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        found = digest if data.names_in_errors else "another"
        raise DataError(
            f"{source or name} must have sha256 {sha256}, got {found}: the file is another version or broken;"
            + (" correct data.sha256" if source else " replace it, or correct data.sha256")
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
