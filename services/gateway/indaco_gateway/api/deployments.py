"""/v1/deployments: create, list, show, describe, lock, share, delete."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import pydantic
from aiohttp import web
from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from indaco_common.auth import is_role
from indaco_common.clock import Clock
from indaco_common.contracts.gateway import MAX_TEMPLATE_BYTES
from indaco_common.errors import Forbidden
from indaco_common.recent import Recent
from indaco_common.store import Found, Repository
from indaco_common.web import NoQuery, describe, excerpt, idempotency_key, read_json, read_query
from indaco_gateway.identity.access import KEPT, Access, Right, Shown, context
from indaco_gateway.model.labels import Change, LockReason, Name, Share, TagKey, Tags, TagValue
from indaco_gateway.model.operation import Facts, Operation
from indaco_gateway.races import rerun
from indaco_gateway.submission import NO_BOOLEAN, Minutes, Submission, Submissions, is_callback

from . import shown
from .answers import MERGE_PATCH, answer, link_header, next_link, require_match, text_of
from .listing import ListQuery, cursor_behind, query_of

ONE = "/v1/deployments/{id}"
IF_MATCH = {"If-Match": "the ETag of what was read: 412 if it has changed since"}
READING = (401, 404, 503)
CHANGING = (400, 401, 403, 404, 409, 412, 413, 415, 503)


class NewDeployment(pydantic.BaseModel):
    """A deployment that is wanted. *template* is a text, or ``catalogue:<card>[@<version>]``; *group* may be left out by members of one."""

    model_config = ConfigDict(extra="forbid")

    template: Annotated[str, Field(min_length=1, max_length=MAX_TEMPLATE_BYTES)]
    parameters: dict[str, Any] = Field(default_factory=dict)
    group: Annotated[str, Field(max_length=256)] | None = None
    name: Name = ""
    tags: Tags = Field(default_factory=dict)
    callback: Annotated[str, Field(max_length=2048), AfterValidator(is_callback)] | None = None
    timeout_minutes: Minutes | None = None
    attempt_timeout_minutes: Minutes | None = None
    max_attempts: Annotated[int, Field(ge=1, le=255), NO_BOOLEAN] | None = None

    @pydantic.field_validator("attempt_timeout_minutes")
    @classmethod
    def _fits(cls, value: int | None, info: pydantic.ValidationInfo) -> int | None:
        whole = info.data.get("timeout_minutes")
        if value is not None and whole is not None and value > whole:
            raise PydanticCustomError("wrong", "is not longer than timeout_minutes")
        return value

    def submission(self) -> Submission:
        """Return the same as it is accepted at either face: a key that was used at one is known at the other."""
        return Submission(
            template=self.template, parameters=self.parameters, user_group=self.group, name=self.name, tags=self.tags,
            callback=self.callback, timeout_mins=self.timeout_minutes, provider_timeout_mins=self.attempt_timeout_minutes,
            max_providers_retry=self.max_attempts,
        )  # fmt: skip


class DeploymentPatch(pydantic.BaseModel):
    """A JSON merge patch: what is not named stays; null for a tag removes it, null for all tags or the name clears them."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    tags: Annotated[dict[TagKey, TagValue | None], Field(max_length=100)] | None = None

    def change(self) -> Change:
        name = (self.name or "") if "name" in self.model_fields_set else None
        return Change(name=name, tags=self.tags or {}, is_cleared="tags" in self.model_fields_set and self.tags is None)


class Lock(pydantic.BaseModel):
    """Why the deployment must not be changed or deleted."""

    model_config = ConfigDict(extra="forbid")

    reason: LockReason


class Sharing(pydantic.BaseModel):
    """What the members of a group may: see it, or change and delete it too. Secrets stay the owner's."""

    model_config = ConfigDict(extra="forbid")

    access: Share


class DeleteQuery(pydantic.BaseModel):
    """*force* gives up on what the site does not let us remove, and says in the deployment what that was."""

    force: bool = False


class Deployments:
    """The collection, and what changes one of it. Every change answers with the deployment and its new ETag."""

    def __init__(
        self, access: Access, submissions: Submissions, operations: Repository[Operation], clock: Clock
    ) -> None:
        self._access, self._submissions, self._operations, self._clock = access, submissions, operations, clock
        self._kept: Recent[Found, Shown] = Recent(KEPT)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/deployments", self.index),
            web.post("/v1/deployments", self.create),
            web.get(ONE, self.show),
            web.patch(ONE, self.patch),
            web.delete(ONE, self.delete),
            web.put(f"{ONE}/lock", self.lock),
            web.delete(f"{ONE}/lock", self.unlock),
            web.put(f"{ONE}/shares/{{group}}", self.share),
            web.delete(f"{ONE}/shares/{{group}}", self.unshare),
        ]

    @describe(
        "List deployments",
        tag="deployments",
        query=ListQuery,
        answers={200: shown.DeploymentPage},
        errors=(400, 401, 403, 503),
    )
    async def index(self, request: web.Request) -> web.Response:
        """Newest first. ``next``, in the body and as a Link, leads to the next page; what is created meanwhile is not on it."""
        principal = await self._access.caller(request)
        asked = read_query(request, ListQuery)
        query = query_of(asked, principal, self._access.roles(principal))
        found, _ = await self._operations.find_parts(query, shown.Listed)
        page, more = found[: asked.limit], len(found) > asked.limit
        following = (
            next_link(request, self._access.base(request), cursor=cursor_behind(page[-1].created_at, page[-1].id))
            if more
            else None
        )
        body = shown.DeploymentPage(content=[shown.summary(operation) for operation in page], next=following)
        return answer(request, body, headers=link_header(following))

    @describe(
        "Create a deployment",
        tag="deployments",
        body=NewDeployment,
        answers={201: shown.Deployment},
        errors=(400, 401, 403, 409, 413, 415, 422, 503),
        headers={"Idempotency-Key": "1 to 128 printable ASCII characters: a repeat gets the same deployment"},
    )
    async def create(self, request: web.Request) -> web.Response:
        """It is accepted, and begins: its timeline tells how it goes on. A repeat under the same Idempotency-Key gets the same deployment."""
        principal = await self._access.writer(request)
        read_query(request, NoQuery)
        key = idempotency_key(request)
        body = await read_json(request, NewDeployment)
        await self._access.delegate(request, principal)
        operation = await self._submissions.accept(body.submission(), principal, key, context(request, principal))
        location = f"{self._access.base(request)}/v1/deployments/{operation.id}"
        return _shown(request, operation, status=201, headers={"Location": location})

    @describe("Show a deployment", tag="deployments", answers={200: shown.Deployment, 304: None}, errors=READING)
    async def show(self, request: web.Request) -> web.Response:
        found = await self._access.shown(request, lambda facts: text_of(shown.deployment(facts)), self._kept)
        return answer(request, found.text, version=found.version)

    @describe(
        "Name and tag a deployment",
        tag="deployments",
        body=DeploymentPatch,
        body_type=MERGE_PATCH,
        answers={200: shown.Deployment},
        errors=CHANGING,
        headers=IF_MATCH,
    )
    async def patch(self, request: web.Request) -> web.Response:
        """A JSON merge patch (RFC 7396); ``application/json`` is taken too."""
        operation = await self._found(request, Right.CHANGE)
        change = (await read_json(request, DeploymentPatch, media_types={MERGE_PATCH, "application/json"})).change()
        return await self._change(request, operation, lambda current, now: current.describe(change, now))

    @describe(
        "Delete a deployment",
        tag="deployments",
        query=DeleteQuery,
        answers={202: shown.Deployment},
        errors=(*CHANGING, 423),
        headers=IF_MATCH,
    )
    async def delete(self, request: web.Request) -> web.Response:
        """Its deletion begins, in whatever state it is; that of one that is locked does not."""
        operation = await self._found(request, Right.CHANGE)
        force = read_query(request, DeleteQuery).force
        return await self._change(
            request, operation, lambda current, now: current.delete(force=force, now=now), status=202
        )

    @describe(
        "Lock a deployment",
        tag="deployments",
        body=Lock,
        answers={200: shown.Deployment},
        errors=CHANGING,
        headers=IF_MATCH,
    )
    async def lock(self, request: web.Request) -> web.Response:
        """Until it is unlocked, nobody can update or delete it: 423. Names, tags and shares can be changed."""
        operation = await self._found(request, Right.CHANGE)
        reason = (await read_json(request, Lock)).reason
        return await self._change(request, operation, lambda current, now: current.lock(reason, now))

    @describe(
        "Unlock a deployment", tag="deployments", answers={200: shown.Deployment}, errors=CHANGING, headers=IF_MATCH
    )
    async def unlock(self, request: web.Request) -> web.Response:
        operation = await self._found(request, Right.CHANGE)
        return await self._change(request, operation, lambda current, now: current.unlock(now))

    @describe(
        "Share a deployment with a group",
        tag="deployments",
        body=Sharing,
        answers={200: shown.Deployment},
        errors=CHANGING,
        headers=IF_MATCH,
    )
    async def share(self, request: web.Request) -> web.Response:
        """By its owner, with a group that the owner's token is of; slashes in the group's path are written ``%2F``."""
        operation = await self._found(request, Right.OWN)
        principal, group = await self._access.writer(request), _group(request)
        access = (await read_json(request, Sharing)).access
        if group not in principal.groups or is_role(group):
            raise Forbidden(f"The group {excerpt(group)} is not in the user's authorized groups")
        return await self._change(request, operation, lambda current, now: current.share(group, access, now))

    @describe(
        "Stop sharing a deployment with a group",
        tag="deployments",
        answers={200: shown.Deployment},
        errors=CHANGING,
        headers=IF_MATCH,
    )
    async def unshare(self, request: web.Request) -> web.Response:
        """By its owner, who need not be of the group any more."""
        operation = await self._found(request, Right.OWN)
        await self._access.writer(request)
        group = _group(request)
        return await self._change(request, operation, lambda current, now: current.unshare(group, now))

    async def _found(self, request: web.Request, right: Right) -> Operation:
        operation, _ = await self._access.operation(request, right)
        return operation

    async def _change(
        self,
        request: web.Request,
        operation: Operation,
        change: Callable[[Operation, datetime], None],
        *,
        status: int = 200,
    ) -> web.Response:
        """Make *change*, if the deployment is as the caller thinks it is."""
        ctx = context(request, await self._access.caller(request))

        async def once() -> Operation:
            async with self._operations.edit(operation.id, ctx) as current:
                require_match(request, current.version)
                change(current, self._clock.now())
            return current

        return _shown(request, await rerun(once), status=status)


def _group(request: web.Request) -> str:
    return request.match_info["group"].removeprefix("/")


def _shown(
    request: web.Request, operation: Facts, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return answer(request, shown.deployment(operation), version=operation.version, status=status, headers=headers)
