"""What belongs to one deployment under /v1: timeline, outputs, resources, template."""

import asyncio
from typing import Annotated

import pydantic
from aiohttp import web

from indaco_common.errors import NotFound, Unavailable
from indaco_common.secrets.port import Secrets
from indaco_common.store import Store
from indaco_common.web import describe, json_response, read_query
from indaco_gateway.identity.access import Access, Right, owner_of
from indaco_gateway.identity.policy import Decision
from indaco_gateway.live import Listener, Live
from indaco_gateway.model.operation import TIMELINE_LENGTH, Operation
from indaco_gateway.model.resources import resources

from . import shown
from .answers import answer, link_header, next_link
from .deployments import ONE, READING

MAX_WAIT_S = 60


class TimelineQuery(pydantic.BaseModel):
    """*after*: the number of the last step that is known. *wait*: seconds to wait for one behind it, if there is none yet."""

    after: Annotated[int, pydantic.Field(ge=0, le=999_999_999)] = 0
    limit: Annotated[int, pydantic.Field(ge=1, le=TIMELINE_LENGTH)] = 100
    wait: Annotated[float, pydantic.Field(ge=0, le=MAX_WAIT_S, allow_inf_nan=False)] = 0


class DeploymentParts:
    """Reads. The outputs are for the owner alone."""

    def __init__(self, access: Access, store: Store, secrets: Secrets, live: Live) -> None:
        self._access, self._store, self._secrets, self._live = access, store, secrets, live

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{ONE}/timeline", self.timeline),
            web.get(f"{ONE}/outputs", self.outputs),
            web.get(f"{ONE}/resources", self.resources),
            web.get(f"{ONE}/template", self.template),
        ]

    @describe(
        "Read the timeline, or wait for more of it",
        tag="deployments",
        query=TimelineQuery,
        answers={200: shown.Timeline, 304: None},
        errors=(400, *READING, 429),
    )
    async def timeline(self, request: web.Request) -> web.Response:
        """The steps behind ``after``; with ``wait``, an answer comes once there is one, or after so many seconds without any.

        The last 500 steps are kept: if the first that comes is not ``after`` + 1, older ones were dropped.
        """
        operation, principal = await self._access.operation(request, Right.READ)
        asked = read_query(request, TimelineQuery)
        if asked.wait and operation.steps <= asked.after and not operation.deleted:
            user = owner_of(principal)
            with self._live.listening(operation.id, asked.after, lambda: _is_gone(request), user) as listener:
                operation = await self._news(listener, asked)
            if self._access.decide(principal, operation, Right.READ) is not Decision.ALLOWED:  # no longer shared
                raise NotFound(f"The deployment <{operation.id}> doesn't exist")
        behind = [step for step in operation.timeline if step.number > asked.after]
        page, more = behind[: asked.limit], len(behind) > asked.limit
        following = next_link(request, self._access.base(request), after=page[-1].number) if more else None
        body = shown.Timeline(content=page, last=operation.steps, is_over=operation.deleted, next=following)
        return answer(request, body, headers=link_header(following))

    @describe("Read the outputs", tag="deployments", answers={200: shown.Outputs}, errors=(*READING, 403))
    async def outputs(self, request: web.Request) -> web.Response:
        """All outputs, secret ones too: for the owner alone."""
        operation, _ = await self._access.operation(request, Right.OWN)
        outputs = dict(operation.outputs)
        if operation.secret_outputs:
            outputs |= await self._secrets.get(f"outputs/{operation.id}") or {}
        return json_response(shown.Outputs(content=outputs, secret=operation.secret_outputs))

    @describe("List the resources", tag="deployments", answers={200: shown.ResourceList, 304: None}, errors=READING)
    async def resources(self, request: web.Request) -> web.Response:
        operation, _ = await self._access.operation(request, Right.READ)
        return answer(
            request, shown.ResourceList(content=[shown.resource(machine) for machine in resources(operation)])
        )

    @describe("Read the template", tag="deployments", answers={200: "application/yaml", 304: None}, errors=READING)
    async def template(self, request: web.Request) -> web.Response:
        """The text as it was sent, or as the catalogue had it."""
        operation, _ = await self._access.operation(request, Right.READ)
        text = await self._store.get_blob(operation.template)
        if text is None:
            raise Unavailable("The template is not in the store")
        return answer(request, text, content_type="application/yaml")

    async def _news(self, listener: Listener, asked: TimelineQuery) -> Operation:
        """Return the deployment once it has a step that the caller does not know, or when the time is up."""
        loop = asyncio.get_running_loop()
        end = loop.time() + asked.wait
        while True:
            listener.wake.clear()
            operation = await listener.channel.read()
            is_news = operation.steps > asked.after or operation.deleted
            if is_news or loop.time() >= end or self._live.is_closing or listener.is_gone():
                return operation
            await listener.wait(max(0.0, end - loop.time()))


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()
