"""The wire: what fits in a frame, and who gets past the handshake."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from optuna_spark.wire import MAX_FRAME, VERSION, FrameSocket, WireError, admit, encode, new_secret, read_frame
from tests.support.waiting import join

SECRET = new_secret()
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(WireError, asyncio.IncompleteReadError):
        await admit(reader, writer, SECRET)
        while True:
            writer.write(encode(await read_frame(reader)))
    writer.close()


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextmanager
def driver(handler: Handler = echo) -> Iterator[tuple[str, int]]:
    """A listening driver in another thread."""
    ready, stop, ports = threading.Event(), threading.Event(), list[int]()

    async def serve() -> None:
        async with listening(handler) as port:
            ports.append(port)
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(60), "the driver does not listen"
    try:
        yield "127.0.0.1", ports[0]
    finally:
        stop.set()
        join(thread)


def test_a_message_arrives_as_it_was_sent_with_every_kind_of_number() -> None:
    message = {"x": [1, 0.1, 1e-320, 2**70, math.inf, -math.inf], "nan": math.nan, "text": "größer 漢", "none": None}
    with driver() as address:
        frames = FrameSocket.connect(address, SECRET, 5)
        frames.send(message)
        reply = frames.receive()
        frames.close()
    assert math.isnan(reply.pop("nan"))
    assert reply == {k: v for k, v in message.items() if k != "nan"}


def test_a_worker_with_another_secret_is_not_let_in() -> None:
    with driver() as address, pytest.raises(WireError, match="closed the connection"):
        FrameSocket.connect(address, new_secret(), 5)


def test_a_driver_with_another_secret_is_not_trusted() -> None:
    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"OPTSPARK" + struct.pack(">H", VERSION) + bytes(32))
        await reader.readexactly(64)
        writer.write(bytes(32))

    with driver(impostor) as address, pytest.raises(WireError, match="another run"):
        FrameSocket.connect(address, SECRET, 5)


def test_a_driver_of_another_version_is_named() -> None:
    async def newer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"OPTSPARK" + struct.pack(">H", 99) + bytes(32))

    with driver(newer) as address, pytest.raises(WireError, match="protocol 99"):
        FrameSocket.connect(address, SECRET, 5)


def test_something_else_that_listens_there_is_recognised() -> None:
    async def web_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with driver(web_server) as address, pytest.raises(WireError, match="not a tuning run"):
        FrameSocket.connect(address, SECRET, 5)


def test_a_recorded_handshake_is_worth_nothing_the_second_time() -> None:
    with driver() as address:
        with socket.create_connection(address) as first:
            greeting = first.recv(42, socket.MSG_WAITALL)
            assert len(greeting) == 42
        with socket.create_connection(address) as second:
            assert second.recv(42, socket.MSG_WAITALL) != greeting


def test_a_frame_above_the_limit_is_refused_before_it_is_read() -> None:
    async def refuse() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(struct.pack(">I", MAX_FRAME + 1))
        with pytest.raises(WireError, match="at most"):
            await read_frame(reader)

    asyncio.run(refuse())


def test_a_message_above_the_limit_is_not_sent() -> None:
    with pytest.raises(WireError, match="at most"):
        encode({"text": "x" * MAX_FRAME})


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"[1, 2]", b"{'a': 1}"])
def test_a_frame_that_is_not_a_json_object_is_an_error(data: bytes) -> None:
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(struct.pack(">I", len(data)) + data)
        with pytest.raises(WireError, match="frame"):
            await read_frame(reader)

    asyncio.run(read())


def test_a_connection_that_ends_is_one_clear_error() -> None:
    with driver() as address:
        frames = FrameSocket.connect(address, SECRET, 5)
        frames.close()
        with pytest.raises(WireError, match="connection"):
            frames.receive()
        with pytest.raises(WireError, match="connection"):
            frames.send({})
