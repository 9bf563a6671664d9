"""Which deployments a list has, in which order, and which page of them: INDIGO's query parameters."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from indaco_common.auth import Principal
from indaco_common.errors import Forbidden, Invalid
from indaco_common.store import Query
from indaco_common.store.port import Scalar
from indaco_common.web import excerpt
from indaco_gateway.model.operation import Status

DEFAULT_SIZE, MAX_SIZE = 10, 2000
MAX_DIGITS = 9
MAX_EXCLUDED = 20
MAX_SORTS = 5
SORTABLE = {
    "createdAt": "created_at", "updatedAt": "updated_at", "status": "status", "cloudProviderName": "provider", "userGroup": "group.path",
    "task": "task", "id": "id", "endpoint": "id",
}  # fmt: skip
"""Names of INDIGO's entity, not of its JSON; ``endpoint`` is what clients see as ``physicalId``, here the deployment's own id."""


@dataclass(frozen=True, slots=True)
class Paging:
    """Page *number* (from 0) of pages of *size*, in the order *sort*: parameters' texts, such as "createdAt,desc".

    The first decides; what is equal in it follows by id, which is by time but for those made under an idempotency key.
    """

    number: int
    size: int
    sort: tuple[str, ...] = ("createdAt,desc",)

    @classmethod
    def of(cls, request: web.Request) -> "Paging":
        """Read the parameters as leniently as INDIGO does; a page is all that there is for orpy, whose paging is broken."""
        is_orpy = request.headers.get("User-Agent", "").startswith("orpy")
        number = _number(request.query.get("page"), least=0, default=0)
        size = _number(request.query.get("size"), least=1, default=MAX_SIZE if is_orpy else DEFAULT_SIZE)
        sort = tuple(filter(None, request.query.getall("sort", ())))[:MAX_SORTS]
        return cls(number, min(size, MAX_SIZE), sort or ("createdAt,desc",))

    def order(self) -> tuple[str, bool]:
        """Return the indexed field, and whether the largest comes first. Raises: Invalid, also for one that does not decide."""
        orders = [_order(sort) for sort in self.sort]
        return orders[0]


def _order(sort: str) -> tuple[str, bool]:
    field, _, direction = sort.partition(",")
    if field not in SORTABLE or direction.lower() not in ("", "asc", "desc"):
        raise Invalid(f"sort: {excerpt(sort)!r} is not one of {', '.join(SORTABLE)}, with ,asc or ,desc")
    return SORTABLE[field], direction.lower() == "desc"


def filters_of(request: web.Request) -> dict[str, str]:
    return {name: value for name in ("createdBy", "userGroup", "excludedStatus") if (value := request.query.get(name))}


def query_of(filters: Mapping[str, str], paging: Paging, principal: Principal, *, is_admin: bool) -> Query:
    """Raises: Forbidden, Invalid."""
    order_by, descending = paging.order()
    return Query(
        equal=_visible(filters, principal, is_admin=is_admin), none_of={"status": _excluded(filters)}, order_by=order_by,
        descending=descending, offset=paging.number * paging.size, limit=paging.size,
    )  # fmt: skip


def _visible(filters: Mapping[str, str], principal: Principal, *, is_admin: bool) -> dict[str, Scalar]:
    """Everybody sees their own; an administrator all of the issuer, or somebody's."""
    equal: dict[str, Scalar] = {"owner.issuer": principal.issuer}
    asked = filters.get("createdBy")
    if asked is not None and asked != "me":
        subject, at, issuer = asked.rpartition("@")  # a subject may have an @ of its own, an issuer's URL has none
        if not (subject and at and issuer):
            raise Invalid(f"Value {excerpt(asked)} for param createdBy is illegal")
        is_theirs = issuer.rstrip("/") == principal.issuer.rstrip("/")
        if not is_theirs or (subject != principal.subject and not is_admin):
            raise Forbidden(f"Only admin can retrieve deployments for {excerpt(asked)}")
        equal["owner.subject"] = subject
    elif asked == "me" or not is_admin:
        equal["owner.subject"] = principal.subject
    if (group := filters.get("userGroup")) is not None:
        if not is_admin and group.removeprefix("/") not in principal.groups:
            raise Forbidden(f"The group {excerpt(group)} is not in the user's authorized groups")
        equal["group.path"] = group.removeprefix("/")
    return equal


def _excluded(filters: Mapping[str, str]) -> list[Scalar]:
    """Which states not to list; deleted ones only if nothing is said, as old clients expect."""
    if "excludedStatus" not in filters:
        return [Status.DELETE_COMPLETE.value]
    return list[Scalar](name.strip() for name in filters["excludedStatus"].split(",") if name.strip())[:MAX_EXCLUDED]


def _number(text: str | None, *, least: int, default: int) -> int:
    if text is None or not (text.isascii() and text.isdigit()):
        return default
    number = int(text[:MAX_DIGITS])
    return number if number >= least else default
