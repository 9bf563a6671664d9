"""INDIGO's JSON: dates to the minute, ``links`` as a list, nulls left out; what we add, older clients ignore."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from indaco_gateway.model.operation import Facts, Operation
from indaco_gateway.model.resources import Resource

from .listing import Paging
from .machines import metadata

MAX_REASON = 65_535  # characters that the dashboard's column takes
IAAS_TYPES = {"openstack": "OPENSTACK", "ec2": "AWS", "kubernetes": "KUBERNETES"}


@lru_cache(maxsize=4096)  # the same deployments are asked for again and again
def date(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat()[:16] + "+0000" if at else None


def deployment(op: Facts, base: str | None) -> dict[str, Any]:
    """Return a deployment, for :func:`json_text`; *base* None leaves the links empty, as in callbacks."""
    body: dict[str, Any] = {
        "uuid": op.id,
        "creationTime": date(op.created_at),
        "updateTime": date(op.updated_at),
        "physicalId": op.id if op.attempts else None,
        "status": op.status.value,
        "statusReason": op.reason[:MAX_REASON] or None,
        "outputs": {**op.outputs, **dict.fromkeys(op.secret_outputs, "secret: see /outputs")},
        "task": op.task.value,
        "callback": op.callback,
        "userGroup": op.group.path,
        "cloudProviderName": op.provider,
        "cloudProviderEndpoint": _endpoint(op),
        "createdBy": {"issuer": op.owner.issuer, "subject": op.owner.subject},
        "links": _links(op, base),
        # ours
        "name": op.name or None,
        "attempts": op.attempts,
        "placement": {"ranked": op.ranked, "refused": op.refused},
        "warnings": list(op.warnings) or None,
        "simulated": bool(op.place and op.place.simulated),
        "version": op.version,
    }
    return {name: value for name, value in body.items() if value is not None}


def _endpoint(op: Facts) -> dict[str, Any]:
    if op.place is None:
        return {}
    kind = IAAS_TYPES.get(op.place.kind, op.place.kind.upper())
    return {
        "cpEndpoint": op.place.endpoint, "region": op.place.region, "cpComputeServiceId": op.place.agreement,
        "deploymentType": kind, "iaasType": kind,
    }  # fmt: skip


def _links(op: Facts, base: str | None) -> list[dict[str, str]]:
    if base is None:
        return []
    self = f"{base}/deployments/{op.id}"
    return [
        {"rel": "self", "href": self},
        {"rel": "resources", "href": f"{self}/resources?type={{type}}"},
        {"rel": "template", "href": f"{self}/template"},
    ]


def resource(op: Operation, machine: Resource, base: str) -> dict[str, Any]:
    url = f"{base}/deployments/{op.id}"
    body = {
        "uuid": machine.uuid,
        "creationTime": date(machine.created_at),
        "updateTime": date(machine.updated_at),
        "physicalId": machine.physical_id or None,
        "state": machine.state,
        "toscaNodeType": machine.type,
        "toscaNodeName": machine.tosca_node,
        "requiredBy": [],
        "metadata": metadata(op, machine),
        "links": [{"rel": "deployment", "href": url}, {"rel": "self", "href": f"{url}/resources/{machine.uuid}"}],
    }
    return {name: value for name, value in body.items() if value is not None}


def page(
    content: list[dict[str, Any]], *, url: str, filters: Mapping[str, str], paging: Paging, total: int
) -> dict[str, Any]:
    """Return one page of a list with its links, in INDIGO's order: first, prev, self, next, last."""
    pages = -(-total // paging.size)
    number, last = paging.number, max(0, pages - 1)

    def link(rel: str, page: int) -> dict[str, str]:
        query = [*filters.items(), ("page", page), ("size", paging.size), *(("sort", sort) for sort in paging.sort)]
        return {"rel": rel, "href": f"{url}?{urlencode(query, safe=',:@/')}"}

    links = [link("self", number)]
    if pages > 1:
        before = [link("prev", number - 1)] if 0 < number <= last else []
        after = [link("next", number + 1)] if number < last else []
        links = [link("first", 0), *before, *links, *after, link("last", last)]
    counts = {"size": paging.size, "totalElements": total, "totalPages": pages, "number": number}
    return {"links": links, "content": content, "page": counts}
