"""The connection between the driver and its workers: it carries messages, each sealed in a frame.

A message is one JSON object. JSON carries no code, unlike pickle, so a message can be wrong but can run nothing. This
module bounds the memory and time that reading it takes. sealing.py seals the frames, messages.py checks the contents.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from typing import Any, Self

from optuna_spark.storage.limits import MAX_DEPTH, depth
from optuna_spark.wire import sealing
from optuna_spark.wire.sealing import LENGTH, TAG, Introduction, Seal, WireError, new_secret

__all__ = ["FrameSocket", "FrameStream", "Message", "WireError", "decode", "encode", "new_secret"]

# The largest message of a worker holds 256 KiB of changes (worker/own_trial.py), one more attribute (64 KiB) and an
# error's text. Or it holds a distribution: 64 KiB of JSON, which are escaped once more.
MAX_REQUEST = 1024 * 1024
# The driver sends more: a search space with long lists of choices, or a queued trial with many attributes.
MAX_REPLY = 16 * 1024 * 1024
MAX_HELLO = 4 * 1024
SILENT_BEATS = 6  # a side that misses this many beats is taken for dead

Message = dict[str, Any]


def encode(message: Message, limit: int = MAX_REPLY) -> bytes:
    """A message as JSON. NaN and the infinities are allowed, in the form that Python's `json` gives them.

    Raises:
        WireError: The message is larger than `limit` bytes.
        TypeError: The message holds a value that JSON cannot hold.
    """
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > limit:
        raise WireError(f"a message must be at most {limit} bytes, got {len(data)}: send less in attributes")
    return data


def decode(data: bytes) -> Message:
    """A message from its JSON. Its values are not checked.

    Raises:
        WireError: It is no JSON object, or it is nested too deeply.
    """
    try:
        message = json.loads(data)
    except RecursionError:
        raise WireError(f"a message is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError:  # not JSON, not UTF-8, or a number of thousands of digits
        raise WireError("a frame does not hold JSON") from None
    if not isinstance(message, dict):
        raise WireError("a frame does not hold a JSON object")
    # Counting brackets is cheap and rules out most messages; only the others are measured.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and depth(message) > MAX_DEPTH:
        raise WireError(f"a message is nested more than {MAX_DEPTH} levels deep")
    return message


def _length(header: bytes, limit: int) -> int:
    (length,) = LENGTH.unpack(header)
    if not TAG <= length <= limit + TAG:
        raise WireError(f"a frame of {length} bytes was announced; at most {limit} are accepted")
    return int(length)


class FrameStream:
    """The driver's end of a connection. Made once the worker's opening is checked; used in the event loop's thread.

    Args:
        reader, writer: The connection.
        secret: The run's secret.
        worker_nonce: The nonce in the worker's opening.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes, worker_nonce: bytes
    ) -> None:
        self._reader, self._writer = reader, writer
        mine = sealing.answer(secret, worker_nonce)
        keys = sealing.keys(secret, worker_nonce, mine.nonce)
        self._incoming, self._outgoing = Seal(keys.to_driver), Seal(keys.to_worker)
        writer.write(mine.to_bytes())

    async def read(self, limit: int = MAX_REQUEST) -> Message:
        """The next message.

        Raises:
            WireError: The frame is not the next one that this worker sealed, is larger than `limit` bytes, or holds no
                message.
            OSError, asyncio.IncompleteReadError: The connection has ended.
        """
        header = await self._reader.readexactly(LENGTH.size)
        sealed = await self._reader.readexactly(_length(header, limit))
        return decode(self._incoming.open(header, sealed))

    def write(self, message: Message) -> None:
        """Send a message; does nothing once the connection has ended.

        Raises:
            WireError: The message is too large.
        """
        data = encode(message)
        if not self._writer.is_closing():
            self._writer.write(self._outgoing.close(data))

    async def drain(self) -> None:
        """Wait while the worker has much left to read.

        Raises:
            OSError: The connection has ended.
        """
        await self._writer.drain()

    def close(self) -> None:
        """End the connection at once, and wake a `read` that waits. Safe to call twice."""
        self._writer.transport.abort()  # not close, which waits for a worker that may not read


class FrameSocket:
    """A worker's end of the connection, which blocks.

    Several threads may call `send`; only one may call `receive`.
    """

    def __init__(self, connection: socket.socket, secret: bytes) -> None:
        self._socket = connection
        self._stream = connection.makefile("rb")
        self._sending = threading.Lock()
        keys = self._introduce(secret)
        self._outgoing, self._incoming = Seal(keys.to_driver), Seal(keys.to_worker)

    @classmethod
    def connect(cls, address: tuple[str, int], secret: bytes, timeout_s: float) -> Self:
        """Connect and do the worker's half of the handshake.

        Args:
            address: Host and port of the driver.
            secret: The run's secret.
            timeout_s: Limit for connecting, and then for each read and write until `notice_silence` is called.

        Raises:
            OSError: Nothing answers at the address.
            WireError: Something answers, but it is not the driver of this run.
        """
        connection = socket.create_connection(address, timeout=timeout_s)
        try:
            # Messages are small and each waits for an answer, so collecting them (Nagle) would only delay them.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return cls(connection, secret)
        except BaseException:
            connection.close()
            raise

    def _introduce(self, secret: bytes) -> sealing.Keys:
        mine = sealing.opening(secret)
        self._socket.sendall(mine.to_bytes())
        version = sealing.protocol_version(self._exactly(sealing.PROTOCOL_BYTES))
        if version is None:
            raise WireError("whatever listens at the driver's address is not a tuning run")
        if version != sealing.VERSION:
            raise WireError(
                f"the driver speaks protocol {version}, this worker {sealing.VERSION}: ship the driver's package"
            )
        theirs = Introduction.from_bytes(self._exactly(sealing.INTRODUCTION_BYTES - sealing.PROTOCOL_BYTES))
        if not sealing.is_answer(secret, mine.nonce, theirs):
            raise WireError("the driver's address answers with another secret: it belongs to another run")
        return sealing.keys(secret, mine.nonce, theirs.nonce)

    def notice_silence(self, silence_s: float) -> None:
        """Drop the timeout, but let the kernel notice that the driver's host has gone (tcp(7))."""
        self._socket.settimeout(None)
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
        data = encode(message, MAX_REQUEST)
        try:
            with self._sending:  # the driver can open frames only in the order in which they were sealed
                self._socket.sendall(self._outgoing.close(data))
        except OSError as error:
            raise WireError(f"the driver closed the connection: {error}") from error

    def receive(self) -> Message:
        """The next message. An error closes the connection.

        Raises:
            WireError: The connection has ended, or a frame was changed on its way.
        """
        try:
            header = self._exactly(LENGTH.size)
            return decode(self._incoming.open(header, self._exactly(_length(header, MAX_REPLY))))
        except WireError:
            self.close()
            raise

    def _exactly(self, count: int) -> bytes:
        try:
            data = self._stream.read(count)
        except (OSError, ValueError) as error:  # ValueError: `close` was called in another thread
            raise WireError(f"the connection to the driver broke: {error}") from error
        if len(data) < count:
            raise WireError("the driver closed the connection")
        return data

    def close(self) -> None:
        """Close the connection, and wake a `receive` in another thread. Safe to call twice."""
        with contextlib.suppress(OSError):  # the driver has closed it already
            self._socket.shutdown(socket.SHUT_RDWR)
        self._stream.close()
        self._socket.close()
