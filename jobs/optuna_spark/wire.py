"""The connection between the driver and its workers: framing, and proof of a shared secret on both sides.

A connection starts with a handshake of fixed-size messages, HMAC-SHA256 over fresh random numbers of both
sides (challenge and response, RFC 2104; the secret itself never travels). Only then frames follow: four bytes
of length, big-endian, and one JSON object. JSON carries no code, so the worst a frame can be is wrong.
Contents are not encrypted, as in Spark's own connections by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
import socket
import struct
import threading
from typing import Any

from optuna_spark.errors import TuningError

MAGIC = b"OPTSPARK"
VERSION = 2
MAX_FRAME = 16 * 1024 * 1024
SILENT_BEATS = 6  # whoever misses so many beats counts as gone
NONCE = 32
MAC = 32

Message = dict[str, Any]
_GREETING = struct.Struct(f">8sH{NONCE}s")
_LENGTH = struct.Struct(">I")


class WireError(TuningError):
    """The other side does not speak this protocol, does not know the secret, or has gone."""


def new_secret() -> bytes:
    """A secret for one run."""
    return secrets.token_bytes(32)


def encode(message: Message) -> bytes:
    """One frame; NaN and the infinities are allowed, as `json` writes them.

    Raises:
        WireError: The message is larger than a frame may be.
        TypeError: The message holds something JSON has no form for.
    """
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_FRAME:
        raise WireError(f"a message must be at most {MAX_FRAME} bytes, got {len(data)}: send less in attributes")
    return _LENGTH.pack(len(data)) + data


def _length(header: bytes) -> int:
    (length,) = _LENGTH.unpack(header)
    if length > MAX_FRAME:
        raise WireError(f"a frame of {length} bytes was announced; at most {MAX_FRAME} are accepted")
    return int(length)


def _decode(data: bytes) -> Message:
    try:
        message = json.loads(data)
    except ValueError as error:
        raise WireError(f"a frame is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise WireError("a frame is not a JSON object")
    return message


def _proof(secret: bytes, role: bytes, driver_nonce: bytes, worker_nonce: bytes) -> bytes:
    # The role keeps one side's answer from being played back as the other's.
    return hmac.digest(secret, MAGIC + role + driver_nonce + worker_nonce, hashlib.sha256)


async def read_frame(reader: asyncio.StreamReader) -> Message:
    """The next message.

    Raises:
        WireError: Not a frame.
        asyncio.IncompleteReadError: The connection ended.
    """
    length = _length(await reader.readexactly(_LENGTH.size))
    return _decode(await reader.readexactly(length))


async def admit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> None:
    """The driver's half of the handshake; reads 64 bytes at most before it knows who asks.

    Raises:
        WireError: The other side does not know the secret.
    """
    nonce = secrets.token_bytes(NONCE)
    writer.write(_GREETING.pack(MAGIC, VERSION, nonce))
    answer = await reader.readexactly(NONCE + MAC)
    worker_nonce, proof = answer[:NONCE], answer[NONCE:]
    if not hmac.compare_digest(proof, _proof(secret, b"worker", nonce, worker_nonce)):
        raise WireError("a connection did not know the run's secret")
    writer.write(_proof(secret, b"driver", nonce, worker_nonce))


class FrameSocket:
    """A worker's blocking end of the connection.

    `send` may be called from several threads; `receive` from one.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._stream = connection.makefile("rb")
        self._sending = threading.Lock()

    @classmethod
    def connect(cls, address: tuple[str, int], secret: bytes, timeout_s: float) -> FrameSocket:
        """Connect and do the worker's half of the handshake.

        Args:
            address: Host and port of the driver.
            secret: The run's secret.
            timeout_s: For connecting and for every step of the handshake.

        Raises:
            OSError: Nobody answers there.
            WireError: Somebody does, but it is not the driver of this run.
        """
        connection = socket.create_connection(address, timeout=timeout_s)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            frames = cls(connection)
            frames._introduce(secret)
            connection.settimeout(None)
        except BaseException:
            connection.close()
            raise
        return frames

    def _introduce(self, secret: bytes) -> None:
        magic, version, driver_nonce = _GREETING.unpack(self._exactly(_GREETING.size))
        if magic != MAGIC:
            raise WireError("whatever listens at the driver's address is not a tuning run")
        if version != VERSION:
            raise WireError(f"the driver speaks protocol {version}, this worker {VERSION}: ship the driver's package")
        nonce = secrets.token_bytes(NONCE)
        self._socket.sendall(nonce + _proof(secret, b"worker", driver_nonce, nonce))
        if not hmac.compare_digest(self._exactly(MAC), _proof(secret, b"driver", driver_nonce, nonce)):
            raise WireError("the driver's address answers with another secret: it belongs to another run")

    def notice_silence(self, silence_s: float) -> None:
        """Let the kernel find out that the other host has gone (tcp(7)), also while nothing is sent."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        seconds = max(4, int(silence_s))
        options = {"TCP_KEEPIDLE": seconds // 4, "TCP_KEEPINTVL": seconds // 4, "TCP_KEEPCNT": 3}
        for name, value in (options | {"TCP_USER_TIMEOUT": seconds * 1000}).items():
            if hasattr(socket, name):  # not every platform has them all
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, message: Message) -> None:
        """Send one message.

        Raises:
            WireError: The connection has ended, or the message is too large.
        """
        data = encode(message)
        try:
            with self._sending:
                self._socket.sendall(data)
        except OSError as error:
            raise WireError(f"the driver closed the connection: {error}") from error

    def receive(self) -> Message:
        """The next message.

        Raises:
            WireError: The connection has ended.
        """
        return _decode(self._exactly(_length(self._exactly(_LENGTH.size))))

    def _exactly(self, count: int) -> bytes:
        try:
            data = self._stream.read(count)
        except (OSError, ValueError) as error:  # ValueError: closed on this side
            raise WireError(f"the connection to the driver broke: {error}") from error
        if len(data) < count:
            raise WireError("the driver closed the connection")
        return data

    def close(self) -> None:
        """Close; wakes a `receive` in another thread; safe to call twice."""
        with contextlib.suppress(OSError):  # the other side was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._stream.close()
        self._socket.close()
