"""The driver's port: lets in who knows the run's secret, and moves frames between workers and the desk."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from functools import partial

from optuna_spark.desk import Desk
from optuna_spark.errors import TuningError
from optuna_spark.messages import Worker
from optuna_spark.wire import SILENT_BEATS, Message, WireError, admit, encode, read_frame

log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0
BACKLOG = 512
STRANGERS = 64


class WorkerServer:
    """Serves workers over TCP, in one event loop.

    A connection that has not proved to know the secret may take 10 seconds and send 64 bytes, and there are at
    most 64 such connections: one more closes the oldest. So strangers cost little, and no worker waits for them.

    Args:
        desk: Answers the workers.
        secret: What a worker must know.
        heartbeat_s: A worker that is silent for six times as long is taken for dead.
        greeting: The first message each worker gets.
    """

    def __init__(self, desk: Desk, secret: bytes, heartbeat_s: float, greeting: Message) -> None:
        self._desk, self._secret, self._greeting = desk, secret, greeting
        self._silence_s = SILENT_BEATS * heartbeat_s
        self._keys = itertools.count(1)
        self._strangers: dict[asyncio.StreamWriter, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the address.

        Raises:
            TuningError: The port is taken, or the host is not this machine's.
        """
        try:
            family, *_, address = (await asyncio.get_running_loop().getaddrinfo(host, port))[0]
            listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
            self._server = await asyncio.start_server(self._accept, sock=listener, backlog=BACKLOG)
        except OSError as error:
            raise TuningError(
                f"the driver cannot listen on {host}:{port}: {error.strerror or error};"
                " set coordinator.port to a free port, or to 0 for any"
            ) from error
        bound = listener.getsockname()
        return bound[0], bound[1]

    async def close(self) -> None:
        """Stop listening, close all connections, and wait until the desk knows."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._welcome(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await self._admit(reader, writer):
                await self._serve(reader, writer)
        finally:
            writer.close()

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self._strangers[writer] = None
        if len(self._strangers) > STRANGERS:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.close()
        peer = writer.get_extra_info("peername")
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await admit(reader, writer, self._secret)
            return True
        except (TimeoutError, OSError, asyncio.IncompleteReadError, WireError) as error:
            log.debug("Connection from %s was not admitted: %s", peer, error)
            return False
        finally:
            self._strangers.pop(writer, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker, unbegun = Worker(next(self._keys), "?"), list[int]()
        try:
            hello = await self._read(reader)
            worker = Worker(worker.key, str(hello.get("worker", "?"))[:250])
            self._desk.enter(worker)
            writer.write(encode(self._greeting))
            while (message := await self._read(reader)).get("op") != "bye":
                if message.get("op") != "beat":
                    self._desk.answer(worker, message, partial(_send, worker, message, writer))
            unbegun = [n for n in message.get("unbegun", ()) if isinstance(n, int)]
        except TimeoutError:
            log.warning("Worker %s has been silent for %g s: taken for dead", worker.name, self._silence_s)
        except (OSError, asyncio.IncompleteReadError, WireError) as error:
            log.info("The connection of worker %s ended: %s", worker.name, error)
        finally:
            await asyncio.shield(self._desk.leave(worker, unbegun))

    async def _read(self, reader: asyncio.StreamReader) -> Message:
        async with asyncio.timeout(self._silence_s):
            return await read_frame(reader)


def _send(
    worker: Worker, message: Message, writer: asyncio.StreamWriter, reply: Message | None, error: BaseException | None
) -> None:
    """Answer a worker's message; send the worker away when there is no answer."""
    try:
        if error is not None:
            raise error
        if reply is not None and message.get("op") != "update" and not writer.is_closing():
            writer.write(encode(reply))
    except TuningError as reason:
        log.warning("Worker %s is sent away: %s", worker.name, reason)
        writer.close()
    except Exception:
        log.exception("A message of worker %s could not be handled", worker.name)
        writer.close()
