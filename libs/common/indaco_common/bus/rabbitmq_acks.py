"""Acknowledgements of one channel, as few frames as possible: each is a system call, the dearest part of a short message."""

import asyncio

import aiormq.abc
import structlog

from indaco_common.errors import Unavailable

from .rabbitmq_link import translated

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Acknowledger:
    """Collects what one turn of the event loop has finished.

    All that was delivered before an unfinished message goes as one frame, what is finished behind it one by one: nothing that is
    finished waits for a slow handler, and nothing unfinished is acknowledged.
    """

    def __init__(self, channel: aiormq.abc.AbstractChannel) -> None:
        self._channel = channel
        self._open: dict[int, None] = {}  # delivered and not acknowledged, in order
        self._finished: set[int] = set()
        self._flushing: asyncio.Task[None] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether acknowledgements are of no use any more, since the broker delivers again."""
        return self._channel.is_closed

    def delivered(self, tag: int) -> None:
        self._open[tag] = None

    def finished(self, tag: int) -> None:
        """Acknowledge *tag*, soon."""
        self._finished.add(tag)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="acknowledge")

    async def flushed(self) -> None:
        """Wait until all that is finished has been handed to the connection."""
        if self._flushing is not None:
            await asyncio.wait([self._flushing])

    async def _flush(self) -> None:
        await asyncio.sleep(0)  # let the others of this turn finish
        self._flushing = None
        try:
            with translated("acknowledge"):
                for tag, is_up_to in self._frames():
                    await self._channel.basic_ack(tag, multiple=is_up_to, wait=False)
        except Unavailable as error:
            log.info("acknowledgements.lost", error=error.detail)

    def _frames(self) -> list[tuple[int, bool]]:
        """Return (tag, whether all before it are meant too), and forget what they acknowledge."""
        first: list[int] = []
        for tag in self._open:
            if tag not in self._finished:
                break
            first.append(tag)
        rest = sorted(self._finished.difference(first))
        for tag in (*first, *rest):
            self._open.pop(tag, None)
        self._finished.clear()
        return [*([(first[-1], len(first) > 1)] if first else []), *((tag, False) for tag in rest)]
