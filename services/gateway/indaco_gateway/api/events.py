"""Live events of a deployment, as server-sent events: its timeline, from where the listener left off."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from indaco_common.auth import Principal
from indaco_common.clock import Clock
from indaco_common.errors import NotFound, Unavailable
from indaco_common.web import describe
from indaco_gateway.identity.access import Access, Right, owner_of
from indaco_gateway.identity.policy import Decision
from indaco_gateway.live import Listener, Live

BEAT_S = 15.0  # between comments that keep proxies from closing the connection
RETRY_MS = 2000  # after which a browser that lost the connection comes back
SLOW_S = 10.0  # after which a listener who does not take what was sent is dropped; he comes back to where he was
MAX_UNSENT = 32 * 1024  # bytes that may wait for a listener; the rest waits in the store
LOOK_S = 0.05
MAX_DIGITS = 9  # of a Last-Event-ID
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(slots=True)
class _Stream:
    """One open stream, and until when its caller is known."""

    request: web.Request
    response: web.StreamResponse
    until: datetime
    spoke_at: float = 0.0

    @property
    def is_gone(self) -> bool:
        return self.request.transport is None or self.request.transport.is_closing()

    async def write(self, text: bytes) -> None:
        """Raises: ConnectionResetError, also if the listener was too slow."""
        await self._room()
        await self.response.write(text)
        self.spoke_at = asyncio.get_running_loop().time()

    async def _room(self) -> None:
        """Wait until little is left of what was sent before: nothing is kept here for one who does not read."""
        loop = asyncio.get_running_loop()
        end = loop.time() + SLOW_S
        while (transport := self.request.transport) is not None and transport.get_write_buffer_size() > MAX_UNSENT:
            if loop.time() >= end:
                transport.abort()
                raise ConnectionResetError("the listener does not read")
            await asyncio.sleep(LOOK_S)


class Events:
    """Streams, at the root and under /v1."""

    def __init__(self, access: Access, live: Live, clock: Clock) -> None:
        self._access, self._live, self._clock = access, live, clock

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/deployments/{id}/events", self.stream, allow_head=False),
            web.get("/v1/deployments/{id}/events", self.stream, allow_head=False),
        ]

    @describe(
        "Follow a deployment",
        tag="deployments",
        answers={200: "text/event-stream", 204: None},
        errors=(401, 404, 429, 503),
        headers={
            "Last-Event-ID": "the number of the last step that was heard; the stream goes on behind it, or behind the newest there is"
        },
    )
    async def stream(self, request: web.Request) -> web.StreamResponse:
        """``id`` is the step's number: send it back as Last-Event-ID to go on after it.

        The stream ends once all is deleted (a listener who has heard that gets a 204, after which browsers rest), when its token
        does, when the right to read is lost, and when the service stops. Who does not read for 10 s while there is news is dropped.
        """
        operation, principal = await self._access.operation(request, Right.READ)
        told = min(_last_event_id(request), operation.steps)  # a number that no step has yet would hide those to come
        if operation.deleted and told >= operation.steps:
            return web.Response(status=204)
        stream = _Stream(request, web.StreamResponse(headers=HEADERS), principal.expires_at)
        with (
            self._live.listening(operation.id, told, lambda: stream.is_gone, owner_of(principal)) as listener,
            contextlib.suppress(ConnectionResetError),
        ):
            await stream.response.prepare(request)
            await stream.write(f"retry: {RETRY_MS}\n\n".encode())
            await self._follow(stream, listener, principal)
        return stream.response

    async def _follow(self, stream: _Stream, listener: Listener, principal: Principal) -> None:
        loop = asyncio.get_running_loop()
        while not (self._live.is_closing or stream.is_gone):
            left_s = (stream.until - self._clock.now()).total_seconds()
            if left_s <= 0:
                return
            listener.wake.clear()
            try:
                if await self._tell(stream, listener, principal):
                    return
            except NotFound:
                return
            except Unavailable:  # the store: there is nothing new to tell until it answers
                pass
            if loop.time() - stream.spoke_at >= BEAT_S:
                await stream.write(b": still here\n\n")
            await listener.wait(min(left_s, max(0.0, stream.spoke_at + BEAT_S - loop.time())))

    async def _tell(self, stream: _Stream, listener: Listener, principal: Principal) -> bool:
        """Write what is new; return whether that was all there will ever be for this caller."""
        channel = listener.channel
        if not channel.has_news(listener.told):
            return channel.is_over
        operation = await channel.read()
        if self._access.decide(principal, operation, Right.READ) is not Decision.ALLOWED:  # no longer shared with him
            return True
        for number, event in channel.events(operation, listener.told):
            await stream.write(event)
            listener.told = number
        return operation.deleted


def _last_event_id(request: web.Request) -> int:
    given = request.headers.get("Last-Event-ID", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS else 0
