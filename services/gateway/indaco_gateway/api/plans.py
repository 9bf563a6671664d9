"""/v1/plans: dry runs. What would be made, where, and why not elsewhere; nothing is held or begun."""

from typing import Annotated, Any, Literal

import pydantic
from aiohttp import web
from pydantic import AwareDatetime, ConfigDict, Field

from indaco_common.contracts.gateway import MAX_TEMPLATE_BYTES
from indaco_common.web import describe, json_response, read_json
from indaco_gateway.identity.access import Access, context
from indaco_gateway.inquiries import Inquiries
from indaco_gateway.model.inquiry import Inquiry, Placement, Planned

WAIT_S = 5.0  # for sla's answer, before it is left to another request
RETRY_AFTER = {"Retry-After": "1"}


class NewPlan(pydantic.BaseModel):
    """What would be deployed; as for a deployment, *template* is a text or ``catalogue:<card>[@<version>]``."""

    model_config = ConfigDict(extra="forbid")

    template: Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE_BYTES)]
    parameters: dict[str, Any] = Field(default_factory=dict)
    group: Annotated[str, Field(max_length=256)] | None = None


class PlanShown(pydantic.BaseModel):
    """A plan, ``pending`` until it is known where it would go. *expires_at* is when it is forgotten."""

    id: str
    status: Literal["pending", "ready"]
    group: str
    created_at: AwareDatetime | None
    expires_at: AwareDatetime | None
    plan: Planned
    placement: Placement | None


class Plans:
    """One's own plans; nobody sees another's."""

    def __init__(self, access: Access, inquiries: Inquiries) -> None:
        self._access, self._inquiries = access, inquiries

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1/plans", self.create), web.get("/v1/plans/{id}", self.show)]

    @describe(
        "Plan a deployment",
        tag="plans",
        body=NewPlan,
        answers={201: PlanShown, 202: PlanShown},
        errors=(400, 401, 403, 413, 415, 429, 503),
        limit="plan",
    )
    async def create(self, request: web.Request) -> web.Response:
        """201 with the whole plan; 202 if it is not known within 5 s where it would go, or the server stops: then its address tells later.

        Parameters are checked as for a deployment; secret ones are kept nowhere.
        """
        principal = await self._access.caller(request)
        body = await read_json(request, NewPlan)
        ctx = context(request, principal)
        asked = await self._inquiries.ask(body.template, body.parameters, principal, body.group, ctx)
        inquiry = await self._inquiries.wait(asked.id, WAIT_S)
        location = {"Location": f"{self._access.base(request)}/v1/plans/{inquiry.id}"}
        if inquiry.placement is None:
            return json_response(_shown(inquiry), status=202, headers={**location, **RETRY_AFTER})
        return json_response(_shown(inquiry), status=201, headers=location)

    @describe("Show a plan", tag="plans", answers={200: PlanShown}, errors=(401, 404, 503))
    async def show(self, request: web.Request) -> web.Response:
        """For ten minutes after it was asked for."""
        principal = await self._access.caller(request)
        return json_response(_shown(await self._inquiries.find(request.match_info["id"], principal)))


def _shown(inquiry: Inquiry) -> PlanShown:
    return PlanShown(
        id=inquiry.id, status="pending" if inquiry.placement is None else "ready", group=inquiry.group.path,
        created_at=inquiry.created_at, expires_at=inquiry.due_at, plan=inquiry.plan, placement=inquiry.placement,
    )  # fmt: skip
