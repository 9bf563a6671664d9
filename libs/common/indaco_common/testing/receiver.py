"""A receiver of webhooks on the loopback: it keeps what it was sent, and answers as it is told."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Received:
    """One request, as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def type(self) -> str:
        """The event's type without what all have."""
        return str(self.json["type"]).removeprefix("indaco.").removesuffix(".v1")

    def is_signed_with(self, secret: str) -> bool:
        """Verify as a receiver would that has read nothing but the Standard Webhooks specification."""
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        key = base64.b64decode(secret.removeprefix("whsec_"))
        wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        given = self.headers.get("webhook-signature", "").split(" ")
        return any(hmac.compare_digest(each, f"v1,{wanted}") for each in given)


@dataclass
class Receiver:
    """*answers*: statuses to give, one after the other; then 200 for ever. *hang_s*: how long to keep the caller waiting."""

    answers: list[int] = field(default_factory=list)
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer_text: str = "thanks"
    hang_s: float = 0
    received: list[Received] = field(default_factory=list)
    port: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def take(self, request: web.Request) -> web.Response:
        self.received.append(Received(request.path_qs, dict(request.headers), await request.read()))
        self._news.set()
        await asyncio.sleep(self.hang_s)
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, text=self.answer_text, headers=self.answer_headers)

    async def has(self, count: int, within_s: float = 10) -> list[Received]:
        """Wait until *count* requests have come, and return all."""
        async with asyncio.timeout(within_s):
            while len(self.received) < count:
                self._news.clear()
                await self._news.wait()
        return self.received


@asynccontextmanager
async def receiving(**options: Any) -> AsyncIterator[Receiver]:
    receiver = Receiver(**options)
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", receiver.take)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()
