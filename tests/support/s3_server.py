"""A real server that speaks S3, on this machine, in an environment of its own (requirements/s3.txt)."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import s3_environment, scratch_folder
from tests.support.waiting import wait_until

KEY, HUSH = "AKIAHUSH", "hush-of-the-store"
# The server replaces an object only for somebody, and looks at no signature while it denies nobody.
AUTHORIZATION = f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request"


@dataclass(frozen=True)
class S3Server:
    """A running server.

    Attributes:
        url: Its address.
    """

    url: str

    @property
    def secrets(self) -> dict[str, str]:
        """What Arrow opens it with."""
        return {"access_key": KEY, "secret_key": HUSH, "region": "us-east-1", "endpoint_url": self.url}

    @property
    def environment(self) -> dict[str, str]:
        """The same, as a machine has it."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": HUSH,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
        }

    def put(self, path: str, content: str | bytes = b"") -> None:
        """Make `/bucket`, or the object `/bucket/key`."""
        self._send("PUT", path, content.encode() if isinstance(content, str) else content)

    @contextmanager
    def denying(self) -> Iterator[None]:
        """Everybody's requests, as a store does that knows nobody."""
        self._send("POST", "/moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            self._send("POST", "/moto-api/reset-auth", b"1000000")

    def _send(self, method: str, path: str, body: bytes) -> None:
        headers = {"Content-Type": "application/octet-stream", "Authorization": AUTHORIZATION}
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60).close()


@contextmanager
def private_s3() -> Iterator[S3Server]:
    """A server with no bucket."""
    with scratch_folder() as folder:
        log = folder / "log"
        python = s3_environment() / "bin" / "python"
        with log.open("w") as output:
            process = subprocess.Popen(
                [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], stdout=output, stderr=output
            )
        try:
            wait_until(lambda: _address(log) or process.poll() is not None, "the S3 server")
            assert _address(log), log.read_text()
            yield S3Server(_address(log))
        finally:
            process.terminate()
            process.wait()


def _address(log: Path) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
    return found[0] if found else ""
