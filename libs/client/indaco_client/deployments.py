"""Deployments, as methods: to ask for them, to see what becomes of them, to change, share and delete them."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import quote

from .errors import ActionFailed, Conflict, DeploymentFailed, TimedOut, Unreachable
from .machines import ASKED_FOR, ON_ITS_WAY
from .wire import TRIES, Json, Wire, pause_s

ENDED = {"CREATE_COMPLETE", "CREATE_FAILED", "UPDATE_COMPLETE", "UPDATE_FAILED", "DELETE_COMPLETE", "DELETE_FAILED"}
PAGE = 100
FIRST_LOOK_S, LONGEST_LOOK_S = 0.1, 5.0  # between two looks at what is waited for

T = TypeVar("T")


class Deployments:
    """A part of :class:`~indaco_client.Client`. Calls raise :class:`~indaco_client.errors.IndacoClientError`."""

    _wire: Wire

    async def create(
        self,
        template: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        group: str | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Json:
        """Ask for a deployment of *template*: a text, or ``catalogue:NAME[@VERSION]``.

        *options* are further fields of the API (``name``, ``tags``, ``callback`` …). It is sent under an idempotency key, so that it is
        made once, however often it has to be sent.
        """
        body = _body(template, parameters, group) | options
        key = idempotency_key or str(uuid.uuid4())
        return await self._wire.json("POST", "/v1/deployments", body, headers={"Idempotency-Key": key}, repeatable=True)

    async def plan(
        self,
        template: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        group: str | None = None,
        timeout_s: float = 30,
    ) -> Json:
        """Return what would be created, where, and why not elsewhere; nothing is. Raises: TimedOut."""
        found = await self._wire.json("POST", "/v1/plans", _body(template, parameters, group), repeatable=True)
        end = time.monotonic() + timeout_s
        while found["status"] == "pending":
            if time.monotonic() > end:
                raise TimedOut(f"the plan is not ready after {timeout_s:g} s", hint="try again a little later")
            await asyncio.sleep(FIRST_LOOK_S)
            found = await self._wire.json("GET", f"/v1/plans/{quote(found['id'], safe='')}")
        return found

    def deployments(self, **filters: str | Sequence[str]) -> AsyncIterator[Json]:
        """Yield deployments, newest first, page by page as they are asked for; without those that are deleted.

        *filters*: ``scope`` (``own``, ``shared``, ``all``), ``status``, ``group``, ``provider``, ``tag``, ``owner``, ``text``; those that
        the API lets repeat may be sequences.
        """
        return self._wire.pages("/v1/deployments", filters, PAGE)

    async def deployment(self, id: str) -> Json:
        return await self._wire.json("GET", _one(id))

    async def change(self, id: str, *, name: str | None = None, tags: Mapping[str, str | None] | None = None) -> Json:
        """Rename a deployment, set tags, and remove those that are None here; return it as it is then."""
        body: Json = {} if name is None else {"name": name}
        if tags:
            body["tags"] = dict(tags)
        headers = {"Content-Type": "application/merge-patch+json"}
        return await self._wire.json("PATCH", _one(id), body, headers=headers, repeatable=True)

    async def update(
        self, id: str, parameters: Mapping[str, Any] | None = None, *, template: str | None = None
    ) -> None:
        """Ask for other inputs, or another template, of a deployment that runs; :meth:`wait` tells how it went."""
        body: Json = {"parameters": dict(parameters or {})}
        if template is not None:
            body["template"] = template
        await self._wire.text("PUT", f"/deployments/{_name(id)}", body)

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

    async def lock(self, id: str, reason: str) -> None:
        """Keep a deployment from being changed and deleted, until it is unlocked."""
        await self._wire.text("PUT", f"{_one(id)}/lock", {"reason": reason}, repeatable=True)

    async def unlock(self, id: str) -> None:
        await self._wire.text("DELETE", f"{_one(id)}/lock", repeatable=True)

    async def share(self, id: str, group: str, access: str = "read") -> None:
        """Let the members of a group of yours see a deployment (``read``), or also change it (``change``)."""
        await self._wire.text("PUT", f"{_one(id)}/shares/{_name(group)}", {"access": access}, repeatable=True)

    async def unshare(self, id: str, group: str) -> None:
        await self._wire.text("DELETE", f"{_one(id)}/shares/{_name(group)}", repeatable=True)

    async def template(self, id: str) -> str:
        return await self._wire.text("GET", f"{_one(id)}/template")

    async def log(self, id: str) -> str:
        return await self._wire.text("GET", f"/deployments/{_name(id)}/log")

    async def outputs(self, id: str) -> Json:
        """Return all outputs, secret ones too: for the owner alone."""
        content: Json = (await self._wire.json("GET", f"{_one(id)}/outputs"))["content"]
        return content

    async def timeline(self, id: str, *, after: int = 0) -> list[Json]:
        """Return the steps so far that are behind number *after*, oldest first."""
        return [step async for step in self._wire.pages(f"{_one(id)}/timeline", {"after": str(after)}, PAGE)]

    async def resources(self, id: str) -> list[Json]:
        content: list[Json] = (await self._wire.json("GET", f"{_one(id)}/resources"))["content"]
        return content

    async def act(self, id: str, action: str, machines: Sequence[str] | None = None) -> list[Json]:
        """Have machines stopped or started (*action*: ``stop``, ``start``): the named ones, or all; return them as they are then.

        Names and ids will do. A machine that is so already, or was asked to be, is left alone: asking twice does no harm.
        """
        body: Json = {"action": action} if machines is None else {"action": action, "resources": list(machines)}
        content: list[Json] = (await self._wire.json("POST", f"{_one(id)}/actions", body, repeatable=True))["content"]
        return content

    async def wait_for_action(
        self, id: str, action: str, machines: Sequence[str], *, timeout_s: float = 3600
    ) -> list[Json]:
        """Return *machines* once they are what :meth:`act` asked for. Raises: TimedOut; ActionFailed, with why they are not."""

        async def look() -> list[Json]:
            return [each for each in await self.resources(id) if {each["node"], each["id"]} & {*machines}]

        def is_over(found: list[Json]) -> bool:
            return all(each["state"] not in ON_ITS_WAY for each in found)

        def late(found: list[Json]) -> TimedOut:
            waiting = ", ".join(f"{each['node']} is still {each['state']}" for each in found if not is_over([each]))
            return TimedOut(f"{waiting} after {timeout_s:g} s", hint=f"indaco resource list {id}")

        found = await _until(look, is_over, timeout_s, late)
        if wrong := [each for each in found if each["state"] != ASKED_FOR[action]]:
            why = "; ".join(
                f"{each['node']} is {each['state']}: {each.get('failure', 'nobody says why')}" for each in wrong
            )
            raise ActionFailed(f"{id}: not all could be {ASKED_FOR[action].lower()}", why=why)
        return found

    async def events(self, id: str, *, after: int = 0) -> AsyncIterator[Json]:
        """Yield the steps of the timeline behind number *after* as they come, across broken connections, until all is deleted.

        Raises: Unreachable, if the server stays away.
        """
        failures = 0
        while True:
            try:
                before = after
                async for step in self._steps(id, after):
                    after, failures = step["number"], 0
                    yield step
                if (await self.deployment(id))["status"] == "DELETE_COMPLETE":
                    return
                if after == before:  # something between us and the server ends streams: not as fast as it can
                    await asyncio.sleep(pause_s(1))
            except Unreachable as error:
                failures += 1
                if failures >= TRIES:
                    raise
                await asyncio.sleep(pause_s(failures, error.retry_after_s))

    async def wait(self, id: str, *, timeout_s: float = 3600, until: frozenset[str] | None = None) -> Json:
        """Return the deployment once it has come to an end of what is under way (or to *until*).

        Raises: TimedOut; DeploymentFailed, for a ``*_FAILED`` that was not waited for.
        """

        def late(found: Json) -> TimedOut:
            state = f"{id} is still {found['status']} after {timeout_s:g} s"
            return TimedOut(state, hint=f"indaco deployment wait {id}")

        deployment = await _until(
            lambda: self.deployment(id), lambda found: _is_over(found["status"], until), timeout_s, late
        )
        status = deployment["status"]
        if status.endswith("FAILED") and status not in (until or ()):
            why = str(deployment.get("status_reason", ""))
            raise DeploymentFailed(f"{id}: {status}", why=why, hint=f"indaco deployment log {id}")
        return deployment

    async def _steps(self, id: str, after: int) -> AsyncIterator[Json]:
        headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
        async for line in self._wire.lines(f"{_one(id)}/events", headers):
            if line.startswith(b"data: "):
                yield json.loads(line[6:])


def _body(template: str, parameters: Mapping[str, Any] | None, group: str | None) -> Json:
    body: Json = {"template": template, "parameters": dict(parameters or {})}
    return body if group is None else body | {"group": group}


async def _until(
    look: Callable[[], Awaitable[T]], is_over: Callable[[T], bool], timeout_s: float, late: Callable[[T], TimedOut]
) -> T:
    """Return what *look* finds once that *is_over*. Raises: what *late* makes of it when the time is up; Unreachable, at the first look."""
    end, look_s = time.monotonic() + timeout_s, FIRST_LOOK_S
    found = await look()
    while not is_over(found):
        if time.monotonic() > end:
            raise late(found)
        await asyncio.sleep(look_s)
        look_s = min(look_s * 1.3, LONGEST_LOOK_S)
        with suppress(Unreachable):  # it was there before: the wait outlasts a restart
            found = await look()
    return found


def _is_over(status: str, until: frozenset[str] | None) -> bool:
    if until is None:
        return status in ENDED
    return status in until or (status in ENDED and status.endswith("FAILED"))


def _one(id: str) -> str:
    return f"/v1/deployments/{_name(id)}"


def _name(text: str) -> str:
    return quote(text, safe="") or "-"
