"""The driver's port: accepts workers that know the run's secret, and has their requests answered."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket

from optuna_spark.driver.conversation import Conversation
from optuna_spark.driver.gate import BACKLOG, HANDSHAKE_S, Gate
from optuna_spark.driver.request_handler import RequestHandler
from optuna_spark.errors import TuningError
from optuna_spark.wire.frames import MAX_HELLO, SILENT_BEATS, FrameStream
from optuna_spark.wire.messages import Greeting, Hello, Worker
from optuna_spark.wire.sealing import WireError

log = logging.getLogger(__name__)


class WorkerServer:
    """Serves workers over TCP, in one event loop.

    Args:
        handler: Answers the workers.
        secret: The run's secret, which a worker must know.
        heartbeat_s: Seconds between beats. A worker that sends nothing, or reads nothing, for six times as long is
            taken for dead.
        greeting: The first message that each worker gets.
    """

    def __init__(self, handler: RequestHandler, secret: bytes, heartbeat_s: float, greeting: Greeting) -> None:
        self._handler, self._secret, self._greeting = handler, secret, greeting.to_message()
        self._silence_s = SILENT_BEATS * heartbeat_s
        self._keys = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate: Gate | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns host and port.

        Raises:
            TuningError: The port is taken, or the host is not this machine's.
        """
        try:
            family, *_, address = (await asyncio.get_running_loop().getaddrinfo(host, port))[0]
            listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        except OSError as error:
            raise TuningError(
                f"the driver cannot listen on {host}:{port}: {error.strerror or error};"
                " set coordinator.port to a free port, or to 0 for any"
            ) from error
        bound = listener.getsockname()
        self._gate = Gate(self._secret, self._admit)
        self._gate.open(listener)
        return bound[0], bound[1]

    async def close(self) -> None:
        """Stop listening, close all connections, and wait until the handler has removed their workers."""
        if self._gate is not None:
            self._gate.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _admit(self, connection: socket.socket, worker_nonce: bytes) -> None:
        task = asyncio.create_task(self._welcome(connection, worker_nonce))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _welcome(self, connection: socket.socket, worker_nonce: bytes) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            stream = FrameStream(reader, writer, self._secret, worker_nonce)
            worker = await self._greet(stream, writer.get_extra_info("peername"))
            if worker is not None:
                await self._serve(worker, stream)
        finally:
            writer.close()
            # `close` waits for the buffer to be read. A peer that does not read would keep the connection for ever.
            if writer.transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(HANDSHAKE_S, writer.transport.abort)

    async def _greet(self, stream: FrameStream, peer: object) -> Worker | None:
        """Read the worker's hello. It must be short and come soon: its opening may be a recorded one."""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                hello = Hello.from_message(await stream.read(MAX_HELLO))
        except (TimeoutError, OSError, asyncio.IncompleteReadError, WireError) as error:
            log.warning("A connection from %s ended before it was known whose it is: %s", peer, _text(error))
            return None
        return Worker(next(self._keys), hello.worker)

    async def _serve(self, worker: Worker, stream: FrameStream) -> None:
        unbegun: tuple[int, ...] = ()
        conversation = Conversation(worker, stream, self._handler, self._silence_s)
        self._handler.enter(worker, conversation.reply)
        try:
            stream.write(self._greeting)
            unbegun = await conversation.run()
        except TimeoutError:
            log.warning("Worker %s has sent or read nothing for %g s: taken for dead", worker.name, self._silence_s)
        except (OSError, asyncio.IncompleteReadError) as error:
            log.info("The connection of worker %s ended: %s", worker.name, _text(error))
        except TuningError as error:
            log.warning("The driver closes the connection of worker %s: %s", worker.name, error)
        except Exception:
            log.exception("A message of worker %s could not be handled", worker.name)
        finally:
            # `close` cancels this task, but the worker's trials must be failed all the same.
            await asyncio.shield(self._handler.leave(worker, unbegun))


def _text(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"it said nothing for {HANDSHAKE_S:g} s"
    return "it was closed" if isinstance(error, asyncio.IncompleteReadError) else str(error)
