"""The asynchronous client: what the gateway offers, as methods; JSON in and out as the API has it."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

import aiohttp

from .errors import DeploymentFailed, TimedOut, Unreachable, error_of

Json = dict[str, Any]
TIMEOUT_S = 60.0
RETRIES = 4  # of calls that may be repeated
ENDED = {"CREATE_COMPLETE", "CREATE_FAILED", "UPDATE_COMPLETE", "UPDATE_FAILED", "DELETE_COMPLETE", "DELETE_FAILED"}


class Client:
    """One user at one gateway. Use it with ``async with``.

    Calls raise :class:`~indaco_client.errors.IndacoClientError`. Reads, deletes and creations (under an idempotency key) are repeated
    when the server does not answer; nothing else is.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self._session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

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
        return await self._json("POST", "/deployments", body, headers={"Idempotency-Key": key}, repeatable=True)

    async def deployments(self, **filters: str) -> AsyncIterator[Json]:
        """Yield deployments, newest first, page by page; *filters*: ``createdBy``, ``userGroup``, ``excludedStatus``."""
        number = 0
        while True:
            page = await self._json("GET", "/deployments", params={**filters, "page": str(number), "size": "100"})
            for deployment in page["content"]:
                yield deployment
            number += 1
            if number >= page["page"]["totalPages"]:
                return

    async def deployment(self, id: str) -> Json:
        return await self._json("GET", f"/deployments/{id}")

    async def delete(self, id: str, *, force: bool = False) -> None:
        await self._text("DELETE", f"/deployments/{id}?force={str(force).lower()}", repeatable=True)

    async def template(self, id: str) -> str:
        return await self._text("GET", f"/deployments/{id}/template")

    async def log(self, id: str) -> str:
        return await self._text("GET", f"/deployments/{id}/log")

    async def outputs(self, id: str) -> Json:
        """Return all outputs, secret ones too: for the owner alone."""
        return await self._json("GET", f"/deployments/{id}/outputs")

    async def timeline(self, id: str) -> list[Json]:
        content: list[Json] = (await self._json("GET", f"/deployments/{id}/timeline"))["content"]
        return content

    async def resources(self, id: str) -> list[Json]:
        content: list[Json] = (await self._json("GET", f"/deployments/{id}/resources?size=2000"))["content"]
        return content

    async def events(self, id: str, *, after: int = 0) -> AsyncIterator[Json]:
        """Yield the steps of the timeline behind number *after* as they come, across broken connections, until all is deleted."""
        while True:
            try:
                async for step in self._stream(id, after):
                    after = step["number"]
                    yield step
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(1)
                continue
            if (await self.deployment(id))["status"] == "DELETE_COMPLETE":
                return

    async def wait(self, id: str, *, timeout_s: float = 3600, until: frozenset[str] | None = None) -> Json:
        """Return the deployment once it has come to an end of what is under way (or to *until*).

        Raises: TimedOut; DeploymentFailed, for a ``*_FAILED`` that was not waited for.
        """
        end, pause_s = time.monotonic() + timeout_s, 0.1
        while True:
            deployment = await self.deployment(id)
            status = deployment["status"]
            if status in (until or ENDED):
                break
            if until and status in ENDED and status.endswith("FAILED"):
                break
            if time.monotonic() > end:
                raise TimedOut(f"{id} is still {status} after {timeout_s:g} s", hint=f"indaco deployment wait {id}")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.3, 5.0)
        if status.endswith("FAILED") and status not in (until or ()):
            raise DeploymentFailed(
                f"{id}: {status}: {deployment.get('statusReason', '')}", hint=f"indaco deployment log {id}"
            )
        return deployment

    # ── keys

    async def keys(self) -> list[Json]:
        content: list[Json] = (await self._json("GET", "/v1/keys"))["content"]
        return content

    async def create_key(self, name: str, public_key: str | None = None, *, timeout_s: float = 30) -> Json:
        """Make a pair, or take *public_key*; return it once it can be put on machines. Raises: TimedOut."""
        body = {"name": name} if public_key is None else {"name": name, "public_key": public_key}
        await self._json("POST", "/v1/keys", body)
        end = time.monotonic() + timeout_s
        while not (key := await self._json("GET", f"/v1/keys/{name}"))["ready"]:
            if time.monotonic() > end:
                raise TimedOut(f"the key {name} is not ready after {timeout_s:g} s", hint="indaco key list")
            await asyncio.sleep(0.1)
        return key

    async def delete_key(self, name: str) -> None:
        await self._text("DELETE", f"/v1/keys/{name}")

    async def reveal_key(self, name: str) -> str:
        """Return the private half of a pair that was made here."""
        return await self._text("POST", f"/v1/keys/{name}/reveal")

    # ── the wire

    async def _stream(self, id: str, after: int) -> AsyncIterator[Json]:
        assert self._session is not None
        headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
        async with self._session.get(f"{self.url}/deployments/{id}/events", headers=headers, timeout=timeout) as answer:
            await _check(answer)
            async for line in answer.content:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    async def _json(self, method: str, path: str, body: Json | None = None, **options: Any) -> Json:
        value: Json = json.loads(await self._text(method, path, body, **options))
        return value

    async def _text(
        self, method: str, path: str, body: Json | None = None, *, repeatable: bool = False, **options: Any
    ) -> str:
        """Call, and again with growing pauses where that is safe. Raises: Unreachable, and what the server says."""
        tries = RETRIES if repeatable or method == "GET" else 1
        for number in range(1, tries):
            try:
                return await self._once(method, path, body, **options)
            except Unreachable:
                await asyncio.sleep(0.2 * 2**number)
        return await self._once(method, path, body, **options)

    async def _once(self, method: str, path: str, body: Json | None, **options: Any) -> str:
        assert self._session is not None, "use the client with `async with`"
        try:
            async with self._session.request(method, self.url + path, json=body, **options) as answer:
                await _check(answer)
                return await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(f"{self.url} does not answer", hint="is it running? indaco run") from error


async def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.status < 400:  # noqa: PLR2004
        return
    try:
        body = json.loads(await answer.text())
    except ValueError:
        body = {}
    raise error_of(answer.status, body if isinstance(body, dict) else {})
