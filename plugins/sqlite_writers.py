"""Where Airflow's metadata database is SQLite, its API server writes for one request at a time.

SQLite has one writer at a time anyway. The API server waits in its event loop for the writer before it. When that is
another of its requests, whose transaction ends in the same event loop, each waits for the other, until the first gives
up with "database is locked" (HTTP 500). Other databases lock rows, and nothing is done here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk.configuration import conf

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# Those do not write, and some of them last as long as a page is open.
READING = {"GET", "HEAD", "OPTIONS"}


class OneWriter:
    """ASGI middleware: requests that may write come one after the other, each with its whole body there already."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self._writing = asyncio.Lock()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING:
            await self.app(scope, receive, send)
            return
        # Before its turn: a client that does not send its body keeps nobody waiting.
        messages = iter(await _request(receive))

        async def replay() -> Message:
            message = next(messages, None)
            return await receive() if message is None else message

        async with self._writing:
            await self.app(scope, replay, send)


async def _request(receive: Receive) -> list[Message]:
    """The messages of a request, up to the end of its body or of its connection."""
    messages = [await receive()]
    while messages[-1]["type"] == "http.request" and messages[-1].get("more_body", False):
        messages.append(await receive())
    return messages


def middlewares(database: str) -> list[dict[str, Any]]:
    """What the API server needs in front of a metadata database with this URL."""
    return [{"middleware": OneWriter, "name": "one writer"}] if database.startswith("sqlite") else []


class SqliteWriters(AirflowPlugin):
    """No request of many at once fails because another one writes."""

    name = "sqlite_writers"
    fastapi_root_middlewares = middlewares(str(conf.get("database", "sql_alchemy_conn", fallback="")))
