"""/v1/deployments/{id}/actions: machines are stopped and started again."""

from typing import Annotated

import pydantic
from aiohttp import web
from pydantic import ConfigDict, Field

from indaco_common.clock import Clock
from indaco_common.contracts.gateway import PowerAction
from indaco_common.store import Repository
from indaco_common.web import describe, read_json
from indaco_gateway.identity.access import Access, Right, context
from indaco_gateway.model import acting
from indaco_gateway.model.operation import Operation
from indaco_gateway.model.resources import resources
from indaco_gateway.races import rerun

from . import shown
from .answers import answer, require_match
from .deployments import CHANGING, IF_MATCH, ONE

MAX_RESOURCES = 200
NameOrId = Annotated[str, Field(min_length=1, max_length=140, examples=["server-0"])]


class MachineAction(pydantic.BaseModel):
    """What machines are to do. *resources* are their names or ids; left out: all that can be started and stopped."""

    model_config = ConfigDict(extra="forbid")

    action: PowerAction
    resources: Annotated[tuple[NameOrId, ...], Field(min_length=1, max_length=MAX_RESOURCES)] | None = None


class Actions:
    """One verb for many machines."""

    def __init__(self, access: Access, operations: Repository[Operation], clock: Clock) -> None:
        self._access, self._operations, self._clock = access, operations, clock

    def routes(self) -> list[web.RouteDef]:
        return [web.post(f"{ONE}/actions", self.act)]

    @describe(
        "Start or stop machines",
        tag="deployments",
        body=MachineAction,
        answers={200: shown.ResourceList, 202: shown.ResourceList},
        errors=(*CHANGING, 423),
        headers=IF_MATCH,
    )
    async def act(self, request: web.Request) -> web.Response:
        """202 with the machines that it is about: what is `STOPPING` or `STARTING` is on its way, and the timeline tells how it ends.

        A machine that is so, or has been asked to be, is not asked again; 200 if that goes for all. It keeps its place, quota and disks
        while it stands still. The `ETag` is the deployment's.
        """
        operation, principal = await self._access.operation(request, Right.CHANGE)
        asked, ctx = await read_json(request, MachineAction), context(request, principal)

        async def once() -> tuple[Operation, set[str], bool]:
            async with self._operations.edit(operation.id, ctx) as current:
                require_match(request, current.version)
                acting.require_actable(current)
                machines = acting.chosen(current, asked.action, asked.resources)
                is_news = acting.act(current, asked.action, machines, self._clock.now())
            return current, {each.node for each in machines}, is_news

        acted, names, is_news = await rerun(once)
        machines = [shown.resource(each) for each in resources(acted) if each.node in names]
        body = shown.ResourceList(content=machines)
        return answer(request, body, version=acted.version, status=202 if is_news else 200)
