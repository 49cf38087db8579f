"""What one worker asks and is answered, from its greeting to its end."""

from __future__ import annotations

import asyncio

from optuna_spark.driver.request_handler import RequestHandler
from optuna_spark.wire.frames import FrameStream
from optuna_spark.wire.messages import Answer, Beat, Bye, Durable, Echo, Request, Tell, Update, Worker, from_worker
from optuna_spark.wire.sealing import WireError

MOST_UPDATES = 32


class Conversation:
    """Reads a worker's messages, and bounds what is there of them at a time.

    A worker asks one thing of a kind at a time; a second before the first is answered is a reason to send it away.
    Updates, which have no answer, wait for the sampler, up to 32; then none is read until one is done. Nor is one who
    does not read what it has been answered. Beats are answered to one who waits, so that it knows that nothing was
    kept from it.

    Args:
        worker: Who speaks.
        stream: Its connection.
        handler: Answers.
        silence_s: Whoever says nothing for so long, or does not read, is taken for dead.
    """

    def __init__(self, worker: Worker, stream: FrameStream, handler: RequestHandler, silence_s: float) -> None:
        self._worker, self._stream, self._handler, self._silence_s = worker, stream, handler, silence_s
        self._open: set[str] = set()
        self._updates = asyncio.Semaphore(MOST_UPDATES)
        self._reason: BaseException | None = None

    async def run(self) -> tuple[int, ...]:
        """Serve until the worker says goodbye; returns the trials that it gives back.

        Raises:
            TimeoutError: It has fallen silent.
            OSError, asyncio.IncompleteReadError: The connection has ended.
            WireError: It is sent away, because of what it said.
            TuningError: It is sent away, because the run has failed.
        """
        try:
            while not isinstance(said := await self._next(), Bye):
                if isinstance(said, Beat):
                    await self._beat(said)
                else:
                    await self._handle(said)
        except (OSError, asyncio.IncompleteReadError):
            if self._reason is not None:  # and that is why
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
        await asyncio.sleep(0)  # others first, also when more has arrived already

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
        """Answer a request; send the worker away when there is an error instead. An update has no answer."""
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
        elif not isinstance(request, Tell) or isinstance(answer, Durable):  # after a long trial it is answered twice
            self._open.discard(request.op)
