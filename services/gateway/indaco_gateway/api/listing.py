"""Which deployments a list of /v1 has: filters, who may ask for whose, and where the page begins. Pure."""

from datetime import datetime
from typing import Annotated, Literal

import pydantic

from indaco_common.auth import Principal
from indaco_common.errors import FieldError, Forbidden, Invalid
from indaco_common.store import Query
from indaco_common.store.port import Scalar
from indaco_common.web import excerpt
from indaco_gateway.identity.policy import Roles
from indaco_gateway.model.labels import line, tag_line
from indaco_gateway.model.operation import Status

from .answers import MAX_CURSOR, cursor_of, position_of

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
MAX_GROUPS = 200  # of a token, that a list of what is shared with them looks for
Text = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=200)]


class ListQuery(pydantic.BaseModel):
    """The parameters of GET /v1/deployments. Without ``status``, those that are deleted are left out.

    ``scope``: ``own`` (the default), ``shared`` (with a group of the caller), ``group`` (all of the ``group`` that is named, which the
    caller administers), ``all`` (of the caller's issuer: operators and auditors).
    ``owner`` is a subject of the caller's issuer: operators and auditors. ``tag`` is a key, or ``key=value``; all that are given must be there.
    ``text`` is looked for in name and id.
    """

    scope: Literal["own", "shared", "group", "all"] = "own"
    owner: Text | None = None
    status: Annotated[tuple[Status, ...], pydantic.Field(max_length=20)] = ()
    group: Text | None = None
    provider: Text | None = None
    tag: Annotated[tuple[Text, ...], pydantic.Field(max_length=10)] = ()
    text: Text | None = None
    cursor: Annotated[str, pydantic.StringConstraints(max_length=MAX_CURSOR)] | None = None
    limit: Annotated[int, pydantic.Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT


def query_of(asked: ListQuery, principal: Principal, roles: Roles) -> Query:
    """Return the question to the store; it asks for one more than the page has, to know whether there is another.

    Raises: Forbidden, Invalid.
    """
    group = asked.group and asked.group.removeprefix("/")
    if group is not None and group not in principal.groups and not _administers(group, principal, roles):
        raise Forbidden(f"The group {excerpt(group)} is not in the user's authorized groups")
    any_of: dict[str, list[Scalar]] = {}
    if asked.status:
        any_of["status"] = [status.value for status in asked.status]
    if group is not None and asked.scope != "group":
        any_of["group.path"] = [group]
    if asked.provider is not None:
        any_of["provider"] = [asked.provider]
    return Query(
        equal=_whose(asked, principal, roles), any_of=any_of,
        none_of={} if asked.status else {"status": [Status.DELETE_COMPLETE.value]}, contains=_texts(asked, principal),
        covered=("status", "audience"), order_by="created_at", after=_after(asked.cursor), limit=asked.limit + 1, is_counted=False,
    )  # fmt: skip


def cursor_behind(created_at: datetime, id: str) -> str:
    return cursor_of(created_at.isoformat(), id)


def _whose(asked: ListQuery, principal: Principal, roles: Roles) -> dict[str, Scalar]:
    equal: dict[str, Scalar] = {"owner.issuer": principal.issuer}
    if asked.owner not in (None, principal.subject) or asked.scope == "all":
        if not roles.reads_all(principal.issuer):
            raise Forbidden("Only operators and auditors list the deployments of others")
    elif asked.scope == "own":
        equal["owner.subject"] = principal.subject
    if asked.owner is not None:
        equal["owner.subject"] = asked.owner
    if asked.scope == "group":
        if asked.group is None:
            raise Invalid("The query is incomplete", errors=[FieldError("?group", "is needed with scope=group")])
        equal["group.path"] = asked.group.removeprefix("/")
        if not _administers(asked.group.removeprefix("/"), principal, roles):
            raise Forbidden(f"Only its administrators list all deployments of the group {excerpt(asked.group)}")
    return equal


def _administers(group: str, principal: Principal, roles: Roles) -> bool:
    return roles.administers(principal.issuer, group) or roles.reads_all(principal.issuer)


def _texts(asked: ListQuery, principal: Principal) -> list[tuple[str, list[str]]]:
    found = [("labels", [_tag(tag)]) for tag in asked.tag]
    if asked.text is not None:
        found.append(("search", [asked.text.casefold()]))
    if asked.scope == "shared":
        found.append(("audience", [line(group) for group in sorted(principal.groups)[:MAX_GROUPS]]))
    return found


def _tag(text: str) -> str:
    key, equals, value = text.partition("=")
    return tag_line(key, value if equals else None)


def _after(cursor: str | None) -> tuple[Scalar, str] | None:
    if cursor is None:
        return None
    created_at, id = position_of(cursor, 2)
    return created_at, id
