"""One worker's connection, from the greeting to its end: what it asks, and the answers it gets."""

from __future__ import annotations

import asyncio

from optuna_spark.driver.request_handler import RequestHandler
from optuna_spark.wire.frames import FrameStream
from optuna_spark.wire.messages import (
    Answer,
    Beat,
    Bye,
    Durable,
    Echo,
    Page,
    Request,
    Tell,
    Update,
    Worker,
    from_worker,
)
from optuna_spark.wire.sealing import WireError

# How many updates of one worker may wait for the sampler. More than one, so that a burst of reports is not held up.
MOST_UPDATES = 32


class Conversation:
    """Reads a worker's messages, and bounds how many of them the driver holds.

    - A worker may have one open request of each kind. A second one before the answer closes the connection.
    - Updates have no answer. Up to 32 of them wait for the sampler; then nothing is read until one has been handled.
    - Nothing is read from a worker that does not read its answers.
    - A worker that waits for an answer asks for an echo of its beats. An echo proves that no frame before it was lost.

    Args:
        worker: The worker.
        stream: Its connection.
        handler: Answers its requests.
        silence_s: A worker that sends nothing, or reads nothing, for this many seconds is taken for dead.
    """

    def __init__(self, worker: Worker, stream: FrameStream, handler: RequestHandler, silence_s: float) -> None:
        self._worker, self._stream, self._handler, self._silence_s = worker, stream, handler, silence_s
        self._open: set[str] = set()  # operations that are not answered yet
        self._updates = asyncio.Semaphore(MOST_UPDATES)
        self._reason: BaseException | None = None

    async def run(self) -> tuple[int, ...]:
        """Serve the worker until its `Bye`; returns the trials that it gives back.

        Raises:
            TimeoutError: The worker has fallen silent.
            OSError, asyncio.IncompleteReadError: The connection has ended.
            WireError: The driver closed the connection, because the worker sent something that it may not.
            TuningError: The driver closed the connection, because the run has failed.
        """
        try:
            while not isinstance(said := await self._next(), Bye):
                if isinstance(said, Beat):
                    await self._beat(said)
                else:
                    await self._handle(said)
        except (OSError, asyncio.IncompleteReadError):
            if self._reason is not None:  # `reply` closed the connection for this reason
                raise self._reason from None
            raise
        return said.unbegun

    async def _next(self) -> Request | Beat | Bye:
        async with asyncio.timeout(self._silence_s):
            await self._stream.drain()
            return from_worker(await self._stream.read())

    async def _beat(self, beat: Beat) -> None:
        if beat.echo:
            self._stream.write(Echo().to_message())
        # `read` does not give way to other tasks while its buffer holds data. A flood of beats must not hold them up.
        await asyncio.sleep(0)

    async def _handle(self, request: Request) -> None:
        if isinstance(request, Update):
            await self._updates.acquire()
            await asyncio.sleep(0)
        elif request.op in self._open:
            raise WireError(f"it sent a second {request.op!r} before the first was answered")
        else:
            self._open.add(request.op)
        self._handler.handle(self._worker, request)

    def reply(self, request: Request, answer: Answer | None, error: BaseException | None) -> None:
        """Answer a request, or close the connection when there is an error. An update has no answer."""
        try:
            if error is not None:
                raise error
            if answer is not None:
                self._stream.write(answer.to_message())
        except Exception as reason:  # noqa: BLE001  # raised again by run, which the closed stream wakes
            self._reason = self._reason or reason
            self._stream.close()
        if isinstance(request, Update):
            self._updates.release()
        elif not _goes_on(request, answer):
            self._open.discard(request.op)


def _goes_on(request: Request, answer: Answer | None) -> bool:
    """Whether another answer follows: to a Tell, Durable after the next trial; to a Read, another page."""
    return (isinstance(request, Tell) and not isinstance(answer, Durable)) or (isinstance(answer, Page) and answer.more)
