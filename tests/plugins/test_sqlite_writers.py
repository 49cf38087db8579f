"""The API server's requests that may write, one after the other; the others as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from sqlite_writers import Message, OneWriter, Receive, Send, middlewares


class Pages:
    """An application that notes who is inside, and what it was sent; each request stays until `leave`."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.bodies: list[bytes] = []
        self.leave = asyncio.Event()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        self.inside.append(scope["path"])
        self.bodies.append(b"".join([message["body"] async for message in parts(receive)]))
        await self.leave.wait()
        self.inside.remove(scope["path"])


async def parts(receive: Receive) -> Any:
    while True:
        message = await receive()
        yield message
        if not message.get("more_body"):
            return


class Client:
    def __init__(self, app: OneWriter, method: str, path: str) -> None:
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "http", "method": method, "path": path}
        self.request: asyncio.Task[None] = asyncio.ensure_future(self._ask(app, scope))

    async def _ask(self, app: OneWriter, scope: Any) -> None:
        await app(scope, self.sent.get, self._answer)

    async def _answer(self, message: Message) -> None:
        raise AssertionError(message)

    def send(self, body: bytes, *, more: bool = False) -> None:
        self.sent.put_nowait({"type": "http.request", "body": body, "more_body": more})


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


def play(story: Awaitable[None]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(story, 60)

    asyncio.run(limited())


def test_one_request_writes_at_a_time_and_each_has_its_body() -> None:
    async def story() -> None:
        pages = Pages()
        app = OneWriter(pages)
        clients = [Client(app, method, path) for method, path in (("POST", "/a"), ("PATCH", "/b"))]
        for client in clients:
            client.send(b"{", more=True)
            client.send(b"}")
        await settle()
        assert pages.inside == ["/a"]
        pages.leave.set()
        await asyncio.gather(*(client.request for client in clients))
        assert pages.bodies == [b"{}", b"{}"]

    play(story())


def test_reading_waits_for_no_writer() -> None:
    async def story() -> None:
        pages = Pages()
        app = OneWriter(pages)
        clients = [Client(app, method, method) for method in ("DELETE", "GET", "HEAD")]
        for client in clients:
            client.send(b"")
        await settle()
        assert sorted(pages.inside) == ["DELETE", "GET", "HEAD"]
        pages.leave.set()
        await asyncio.gather(*(client.request for client in clients))

    play(story())


def test_a_body_that_does_not_come_keeps_nobody_waiting() -> None:
    async def story() -> None:
        pages = Pages()
        app = OneWriter(pages)
        idle, other = Client(app, "POST", "/idle"), Client(app, "POST", "/other")
        idle.send(b"{", more=True)
        other.send(b"{}")
        await settle()
        assert pages.inside == ["/other"]
        pages.leave.set()
        await other.request
        idle.sent.put_nowait({"type": "http.disconnect"})
        with pytest.raises(KeyError):  # this application knows no such message; Airflow's do
            await idle.request
        after = Client(app, "POST", "/after")
        after.send(b"")
        await after.request

    play(story())


def test_other_databases_are_left_alone() -> None:
    (middleware,) = middlewares("sqlite:////state/airflow.db?timeout=60")
    assert middleware["middleware"] is OneWriter
    assert middlewares("mysql+pymysql://airflow@db/airflow") == middlewares("postgresql://db/airflow") == []
