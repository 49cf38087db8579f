"""The wire: what fits in a message, who gets past the handshake, and what becomes of a frame that was tampered with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from optuna_spark.driver.gate import Gate
from optuna_spark.storage.limits import MAX_DEPTH
from optuna_spark.wire.frames import MAX_REPLY, MAX_REQUEST, FrameSocket, FrameStream, decode, encode
from optuna_spark.wire.sealing import (
    INTRODUCTION_BYTES,
    MAGIC,
    PROTOCOL_BYTES,
    TAG,
    VERSION,
    Introduction,
    Seal,
    WireError,
    answer,
    is_answer,
    is_opening,
    keys,
    new_secret,
    opening,
)
from tests.support.waiting import join

SECRET = new_secret()
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class EchoDriver:
    """Answers every message of those it admits with the message itself.

    Attributes:
        ends: Why each connection ended.
    """

    def __init__(self) -> None:
        self.ends: list[Exception] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def serve(self, listener: socket.socket, stop: asyncio.Event) -> None:
        gate = Gate(SECRET, self._admit)
        gate.open(listener)
        await stop.wait()
        gate.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _admit(self, connection: socket.socket, worker_nonce: bytes) -> None:
        self._tasks.append(asyncio.create_task(self._echo(connection, worker_nonce)))

    async def _echo(self, connection: socket.socket, worker_nonce: bytes) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        stream = FrameStream(reader, writer, SECRET, worker_nonce)
        try:
            while True:
                stream.write(await stream.read())
        except (WireError, asyncio.IncompleteReadError) as error:
            self.ends.append(error)
        finally:
            writer.close()


async def fake(handler: Handler, listener: socket.socket, stop: asyncio.Event) -> None:
    async with await asyncio.start_server(handler, sock=listener):
        await stop.wait()


@contextmanager
def driver(serve: Callable[[socket.socket, asyncio.Event], Awaitable[None]]) -> Iterator[tuple[str, int]]:
    """A listening driver in another thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(listener, stop),))
    address = listener.getsockname()
    thread.start()
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        join(thread)
        loop.close()


@contextmanager
def echo() -> Iterator[tuple[str, int]]:
    with driver(EchoDriver().serve) as address:
        yield address


@contextmanager
def impostor(handler: Handler) -> Iterator[tuple[str, int]]:
    with driver(lambda listener, stop: fake(handler, listener, stop)) as address:
        yield address


def test_a_message_arrives_as_it_was_sent_with_every_kind_of_number() -> None:
    message = {"x": [1, 0.1, 1e-320, 2**70, math.inf, -math.inf], "nan": math.nan, "text": "größer 漢", "none": None}
    with echo() as address:
        frames = FrameSocket.connect(address, SECRET, 60)
        frames.send(message)
        reply = frames.receive()
        frames.close()
    assert math.isnan(reply.pop("nan"))
    assert reply == {k: v for k, v in message.items() if k != "nan"}


def test_several_threads_may_send_at_once() -> None:
    def send(number: int) -> None:
        for count in range(200):
            frames.send({"from": number, "count": count, "text": "x" * (count % 7) * 1000})

    with echo() as address:
        frames = FrameSocket.connect(address, SECRET, 60)
        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        replies = [frames.receive() for _ in range(800)]
        frames.close()
    for number in range(4):
        assert [reply["count"] for reply in replies if reply["from"] == number] == list(range(200))


@pytest.mark.attack("the wire", "a worker or a driver without the run's secret", times=2)
def test_a_worker_with_another_secret_is_not_let_in() -> None:
    with echo() as address, pytest.raises(WireError, match="closed the connection"):
        FrameSocket.connect(address, new_secret(), 60)

    async def another(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        words = await reader.readexactly(INTRODUCTION_BYTES)
        writer.write(answer(new_secret(), Introduction.from_bytes(words[PROTOCOL_BYTES:]).nonce).to_bytes())

    with impostor(another) as address, pytest.raises(WireError, match="another run"):
        FrameSocket.connect(address, SECRET, 60)


def test_a_driver_of_another_version_is_named() -> None:
    async def newer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(MAGIC + struct.pack(">H", 99))

    with impostor(newer) as address, pytest.raises(WireError, match=f"protocol 99, this worker {VERSION}"):
        FrameSocket.connect(address, SECRET, 60)


def test_a_worker_of_another_version_is_told_the_drivers() -> None:
    with echo() as address, socket.create_connection(address, timeout=60) as connection:
        connection.sendall(MAGIC + struct.pack(">H", 99) + bytes(64))
        assert connection.recv(100) == MAGIC + struct.pack(">H", VERSION)


def test_something_else_that_listens_there_is_recognised() -> None:
    async def web_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with impostor(web_server) as address, pytest.raises(WireError, match="not a tuning run"):
        FrameSocket.connect(address, SECRET, 60)


def test_proofs_hold_for_their_role_their_numbers_and_their_secret_only() -> None:
    mine = opening(SECRET)
    theirs = answer(SECRET, mine.nonce)
    assert is_opening(SECRET, mine)
    assert is_answer(SECRET, mine.nonce, theirs)
    assert not is_opening(new_secret(), mine)
    assert not is_opening(SECRET, theirs)
    assert not is_answer(SECRET, mine.nonce, mine)
    assert not is_answer(SECRET, opening(SECRET).nonce, theirs)


def test_each_direction_and_each_connection_has_a_key_of_its_own() -> None:
    nonces = [opening(SECRET).nonce for _ in range(4)]
    made = [key for pair in (nonces[:2], nonces[1::-1], nonces[2:]) for key in keys(SECRET, *pair)]
    assert len(set(made)) == 6
    assert keys(SECRET, *nonces[:2]) == keys(SECRET, *nonces[:2])


@pytest.mark.attack("the wire", "one bit of a frame flipped, each in turn", times=8 * (4 + 25 + TAG))
def test_no_bit_of_a_frame_can_be_changed() -> None:
    key = new_secret()
    frame = Seal(key).close(b'{"op":"tell","number":12}')
    assert Seal(key).open(frame[:4], frame[4:]) == b'{"op":"tell","number":12}'
    for bit in range(8 * len(frame)):
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError, match="forged, altered"):
            Seal(key).open(bytes(changed[:4]), bytes(changed[4:]))


@pytest.mark.attack("the wire", "frames repeated, left out or in another order", times=200)
def test_frames_open_once_and_in_their_order() -> None:
    chance = random.Random(1)
    for _ in range(200):
        key = new_secret()
        sender, receiver = Seal(key), Seal(key)
        frames = [sender.close(bytes([number])) for number in range(5)]
        others = [frames[n] for n in (chance.randrange(5) for _ in range(5))]
        with contextlib.suppress(WireError):
            for number, frame in enumerate(others):
                assert receiver.open(frame[:4], frame[4:]) == bytes([number])
                assert frame is frames[number]


def test_a_frame_above_the_limit_is_refused_before_it_is_read() -> None:
    for length in (MAX_REQUEST + TAG + 1, 2**32 - 1, TAG - 1, 0):
        echoing = EchoDriver()
        with driver(echoing.serve) as address:
            frames = FrameSocket.connect(address, SECRET, 60)
            frames._socket.sendall(struct.pack(">I", length))
            with pytest.raises(WireError, match="closed the connection"):
                frames.receive()
        assert "at most" in str(echoing.ends)


def test_a_message_above_the_limit_is_not_sent() -> None:
    with pytest.raises(WireError, match="at most"):
        encode({"text": "x" * MAX_REPLY})
    with echo() as address:
        frames = FrameSocket.connect(address, SECRET, 60)
        with pytest.raises(WireError, match="at most"):
            frames.send({"text": "x" * MAX_REQUEST})
        frames.send({"text": "x" * (MAX_REQUEST - 100)})
        assert len(frames.receive()["text"]) == MAX_REQUEST - 100
        frames.close()


NO_MESSAGES = [b"\xff\xfe\x00", b"[1, 2]", b"{'a': 1}", b"", b"7", b'{"a":1', b'{"a":' + b"1" * 5000 + b"}"]
DEEP = [b'{"a":' * n + b"1" + b"}" * n for n in (MAX_DEPTH + 1, 500, 10_000, 100_000)]
DEEP += [b'{"a":' + b"[" * n + b"]" * n + b"}" for n in (MAX_DEPTH, 500, 10_000, 300_000)]


@pytest.mark.parametrize("data", [*NO_MESSAGES, *DEEP], ids=lambda data: repr(data[:9]))
@pytest.mark.attack("the wire", "a frame that holds no JSON object, or a deep one")
def test_what_is_no_message_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(WireError, match=r"frame|levels deep"):
        decode(data)


def test_a_message_may_be_wide_and_a_little_deep() -> None:
    message: dict[str, Any] = {"list": [[n, {}] for n in range(10_000)], "text": "[" * 1000}
    for _ in range(MAX_DEPTH - 4):
        message = {"inner": message}
    assert decode(json.dumps(message).encode()) == message


def test_a_connection_that_ends_is_one_clear_error() -> None:
    with echo() as address:
        frames = FrameSocket.connect(address, SECRET, 60)
        frames.close()
        with pytest.raises(WireError, match="connection"):
            frames.receive()
        with pytest.raises(WireError, match="connection"):
            frames.send({})
