"""Live events of a deployment, as server-sent events: its timeline, from where the listener left off."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from aiohttp import web

from indaco_common.clock import Clock
from indaco_common.errors import NotFound, TooManyRequests, Unavailable
from indaco_common.hints import Hints
from indaco_common.store import Repository, Store

from .access import Access, Right
from .model.operation import Operation

BEAT_S = 15.0  # between comments that keep proxies from closing the connection
POLL_S = 1.0  # for what another gateway process saved, and for listeners who went away without a word
RETRY_MS = 2000  # after which a browser that lost the connection comes back
FULL_RETRY_S = 30.0
MAX_DIGITS = 9  # of a Last-Event-ID
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(slots=True)
class _Listener:
    """One open stream: until when its caller is known, the last step it was told, and the version that this was read from."""

    id: str
    request: web.Request
    response: web.StreamResponse
    until: datetime
    told: int
    version: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    spoke_at: float = 0.0

    @property
    def is_gone(self) -> bool:
        return self.request.transport is None or self.request.transport.is_closing()

    async def write(self, text: str) -> None:
        await self.response.write(text.encode())
        self.spoke_at = asyncio.get_running_loop().time()


class Events:
    """Streams. A hint wakes a listener in this process at once; the poll is for what other processes saved."""

    def __init__(
        self,
        access: Access,
        operations: Repository[Operation],
        store: Store,
        hints: Hints,
        clock: Clock,
        max_listeners: int,
    ) -> None:
        self._access, self._operations, self._store = access, operations, store
        self._clock, self._most = clock, max_listeners
        self._listeners: dict[str, list[_Listener]] = {}
        self._count = 0
        self._closing = False
        hints.on_change(Operation, self._changed)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/deployments/{id}/events", self.stream, allow_head=False)]

    async def run(self) -> None:
        """Until the service stops; then end the streams, which would hold up the stop."""
        self._closing = False
        try:
            await asyncio.Event().wait()
        finally:
            self._closing = True
            for id in self._listeners:
                self._changed(id)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """``id`` is the step's number: send it back as Last-Event-ID to go on after it.

        The stream ends once all is deleted (a listener who has heard that gets a 204, after which browsers rest), when its token
        does, and when the service stops.
        """
        operation, principal = await self._access.operation(request, Right.READ)
        told = _last_event_id(request)
        if operation.deleted and told >= operation.steps:
            return web.Response(status=204)
        if self._count >= self._most:
            raise TooManyRequests(
                f"There are {self._most} listeners already; come back later", retry_after_s=FULL_RETRY_S
            )
        response = web.StreamResponse(headers=HEADERS)
        listener = _Listener(operation.id, request, response, principal.expires_at, told)
        with self._listening(listener), contextlib.suppress(ConnectionResetError):
            await response.prepare(request)
            await listener.write(f"retry: {RETRY_MS}\n\n")
            await self._follow(listener)
        return response

    @contextlib.contextmanager
    def _listening(self, listener: _Listener) -> Iterator[None]:
        peers = self._listeners.setdefault(listener.id, [])
        peers.append(listener)
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            peers.remove(listener)
            if not peers:
                del self._listeners[listener.id]

    def _changed(self, id: str) -> None:
        for listener in self._listeners.get(id, ()):
            listener.wake.set()

    async def _follow(self, listener: _Listener) -> None:
        while not (self._closing or listener.is_gone or self._clock.now() >= listener.until):
            listener.wake.clear()
            try:
                if await self._tell(listener):
                    return
            except NotFound:
                return
            except Unavailable:  # the store: there is nothing new to tell until it answers
                pass
            if asyncio.get_running_loop().time() - listener.spoke_at >= BEAT_S:
                await listener.write(": still here\n\n")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await listener.wake.wait()

    async def _tell(self, listener: _Listener) -> bool:
        """Write what is new; return whether that was all there will ever be."""
        found = await self._store.load(Operation.KIND, listener.id)
        if found is not None and found.version == listener.version:  # reading it costs ten times as much as looking
            return False
        operation = await self._operations.get(listener.id)
        listener.version = operation.version
        for step in operation.timeline:
            if step.number > listener.told:
                line = json.dumps(step.model_dump(mode="json"))
                await listener.write(f"id: {step.number}\nevent: {step.type}\ndata: {line}\n\n")
                listener.told = step.number
        return operation.deleted


def _last_event_id(request: web.Request) -> int:
    given = request.headers.get("Last-Event-ID", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) <= MAX_DIGITS else 0
