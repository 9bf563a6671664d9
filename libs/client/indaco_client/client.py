"""The asynchronous client: what the gateway offers, as methods; JSON in and out as the API has it."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self
from urllib.parse import quote

from .catalogue import Catalogue
from .errors import Conflict, DeploymentFailed, TimedOut, Unreachable
from .wire import TRIES, Json, TokenSource, Wire, pause_s

ENDED = {"CREATE_COMPLETE", "CREATE_FAILED", "UPDATE_COMPLETE", "UPDATE_FAILED", "DELETE_COMPLETE", "DELETE_FAILED"}
PAGE = 100
FIRST_LOOK_S, LONGEST_LOOK_S = 0.1, 5.0  # between two looks at what is waited for


class Client:
    """One user at one gateway. Use it with ``async with``.

    Calls raise :class:`~indaco_client.errors.IndacoClientError`. Reads, deletions and creations (under an idempotency key) are repeated
    when the server does not answer; nothing else is. *token* may be a function, for work that outlives a token.
    """

    def __init__(self, url: str, token: TokenSource = None) -> None:
        self._wire = Wire(url, token)
        self.catalogue = Catalogue(self._wire)

    @property
    def url(self) -> str:
        return self._wire.url

    async def __aenter__(self) -> Self:
        await self._wire.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._wire.close()

    # ── deployments

    async def create(
        self,
        template: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        group: str | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Json:
        """Ask for a deployment; *options* are further fields of the API (``timeoutMins``, ``callback`` …)."""
        body = {"template": template, "parameters": dict(parameters or {}), **options}
        if group is not None:
            body["userGroup"] = group
        key = idempotency_key or str(uuid.uuid4())
        return await self._wire.json("POST", "/deployments", body, headers={"Idempotency-Key": key}, repeatable=True)

    async def deployments(self, **filters: str) -> AsyncIterator[Json]:
        """Yield deployments, newest first, page by page; *filters*: ``createdBy``, ``userGroup``, ``excludedStatus``."""
        number = 0
        while True:
            query = {**filters, "page": str(number), "size": str(PAGE)}
            page = await self._wire.json("GET", "/deployments", params=query)
            for deployment in page["content"]:
                yield deployment
            number += 1
            if number >= page["page"]["totalPages"]:
                return

    async def deployment(self, id: str) -> Json:
        return await self._wire.json("GET", _one(id))

    async def delete(self, id: str, *, force: bool = False) -> None:
        """Ask for the deletion; where an answer was lost on the way, that it is under way is answer enough."""
        path = f"{_one(id)}?force={str(force).lower()}"
        try:
            await self._wire.text("DELETE", path)
        except Unreachable as error:
            await asyncio.sleep(pause_s(1, error.retry_after_s))
            try:
                await self._wire.text("DELETE", path, repeatable=True)
            except Conflict:
                if not (await self.deployment(id))["status"].startswith("DELETE"):
                    raise

    async def template(self, id: str) -> str:
        return await self._wire.text("GET", f"{_one(id)}/template")

    async def log(self, id: str) -> str:
        return await self._wire.text("GET", f"{_one(id)}/log")

    async def outputs(self, id: str) -> Json:
        """Return all outputs, secret ones too: for the owner alone."""
        return await self._wire.json("GET", f"{_one(id)}/outputs")

    async def timeline(self, id: str) -> list[Json]:
        content: list[Json] = (await self._wire.json("GET", f"{_one(id)}/timeline"))["content"]
        return content

    async def resources(self, id: str) -> list[Json]:
        content: list[Json] = (await self._wire.json("GET", f"{_one(id)}/resources?size=2000"))["content"]
        return content

    async def events(self, id: str, *, after: int = 0) -> AsyncIterator[Json]:
        """Yield the steps of the timeline behind number *after* as they come, across broken connections, until all is deleted.

        Raises: Unreachable, if the server stays away.
        """
        failures = 0
        while True:
            try:
                async for step in self._steps(id, after):
                    after, failures = step["number"], 0
                    yield step
                if (await self.deployment(id))["status"] == "DELETE_COMPLETE":
                    return
            except Unreachable as error:
                failures += 1
                if failures >= TRIES:
                    raise
                await asyncio.sleep(pause_s(failures, error.retry_after_s))

    async def wait(self, id: str, *, timeout_s: float = 3600, until: frozenset[str] | None = None) -> Json:
        """Return the deployment once it has come to an end of what is under way (or to *until*).

        Raises: TimedOut; DeploymentFailed, for a ``*_FAILED`` that was not waited for.
        """
        end, look_s = time.monotonic() + timeout_s, FIRST_LOOK_S
        deployment = await self.deployment(id)
        while not _is_over(deployment["status"], until):
            if time.monotonic() > end:
                state = f"{id} is still {deployment['status']} after {timeout_s:g} s"
                raise TimedOut(state, hint=f"indaco deployment wait {id}")
            await asyncio.sleep(look_s)
            look_s = min(look_s * 1.3, LONGEST_LOOK_S)
            try:
                deployment = await self.deployment(id)
            except Unreachable:  # it was there before: the wait outlasts a restart
                continue
        status = deployment["status"]
        if status.endswith("FAILED") and status not in (until or ()):
            reason = f"{id}: {status}: {deployment.get('statusReason', '')}"
            raise DeploymentFailed(reason, hint=f"indaco deployment log {id}")
        return deployment

    # ── keys

    async def keys(self) -> list[Json]:
        content: list[Json] = (await self._wire.json("GET", "/v1/keys"))["content"]
        return content

    async def create_key(self, name: str, public_key: str | None = None, *, timeout_s: float = 30) -> Json:
        """Make a pair, or take *public_key*; return it once it can be put on machines. Raises: TimedOut."""
        body = {"name": name} if public_key is None else {"name": name, "public_key": public_key}
        await self._wire.json("POST", "/v1/keys", body)
        end = time.monotonic() + timeout_s
        while not (key := await self._wire.json("GET", _key(name)))["ready"]:
            if time.monotonic() > end:
                raise TimedOut(f"the key {name} is not ready after {timeout_s:g} s", hint="indaco key list")
            await asyncio.sleep(FIRST_LOOK_S)
        return key

    async def delete_key(self, name: str) -> None:
        await self._wire.text("DELETE", _key(name))

    async def reveal_key(self, name: str) -> str:
        """Return the private half of a pair that was made here."""
        return await self._wire.text("POST", f"{_key(name)}/reveal")

    async def _steps(self, id: str, after: int) -> AsyncIterator[Json]:
        headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
        async for line in self._wire.lines(f"{_one(id)}/events", headers):
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


def _is_over(status: str, until: frozenset[str] | None) -> bool:
    if until is None:
        return status in ENDED
    return status in until or (status in ENDED and status.endswith("FAILED"))


def _one(id: str) -> str:
    return f"/deployments/{quote(id, safe='') or '-'}"


def _key(name: str) -> str:
    return f"/v1/keys/{quote(name, safe='') or '-'}"
