"""Live events of a deployment, as server-sent events: its timeline, from where the listener left off."""

import asyncio
import contextlib
import json

from aiohttp import web

from indaco_common.errors import NotFound, TooManyRequests
from indaco_common.hints import Hints
from indaco_common.store import Repository

from .access import Access
from .model.operation import Operation, Status

BEAT_S = 15.0  # between comments that keep proxies from closing the connection
POLL_S = 1.0  # for what another gateway process saved


class Events:
    """Streams. A hint wakes a listener in this process at once; the poll is for what other processes saved."""

    def __init__(self, access: Access, operations: Repository[Operation], hints: Hints, max_listeners: int) -> None:
        self._access, self._operations, self._most = access, operations, max_listeners
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._count = 0
        hints.on_change(Operation, self._changed)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/deployments/{id}/events", self.stream)]

    def _changed(self, id: str) -> None:
        for event in self._listeners.get(id, ()):
            event.set()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """``id`` is the step's number: send it back as Last-Event-ID to go on after it. Ends once all is deleted."""
        op, _ = await self._access.readable(request)
        if self._count >= self._most:
            raise TooManyRequests(f"{self._most} listeners already; come back later", retry_after_s=30)
        given = request.headers.get("Last-Event-ID", "0")
        seen = int(given) if given.isascii() and given.isdigit() and len(given) < 10 else 0  # noqa: PLR2004
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        response.headers["X-Accel-Buffering"] = "no"
        wake = asyncio.Event()
        self._listeners.setdefault(op.id, set()).add(wake)
        self._count += 1
        try:
            await response.prepare(request)
            await self._follow(response, op.id, seen, wake)
        finally:
            self._count -= 1
            self._listeners[op.id].discard(wake)
            if not self._listeners[op.id]:
                del self._listeners[op.id]
        return response

    async def _follow(self, response: web.StreamResponse, id: str, seen: int, wake: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        spoke = loop.time()
        while True:
            wake.clear()
            try:
                op = await self._operations.get(id)
            except NotFound:
                return
            for step in op.timeline:
                if step.number > seen:
                    data = json.dumps(step.model_dump(mode="json"))
                    await response.write(f"id: {step.number}\nevent: {step.type}\ndata: {data}\n\n".encode())
                    seen, spoke = step.number, loop.time()
            if op.status is Status.DELETE_COMPLETE:
                return
            if loop.time() - spoke > BEAT_S:
                await response.write(b": still here\n\n")
                spoke = loop.time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await wake.wait()
