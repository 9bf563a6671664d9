"""Where to connect to: the machine of a deployment that SSH is for, from its outputs and resources. Pure decisions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .errors import Conflict, NotFound, Refused

if TYPE_CHECKING:
    from .wire import Json

ASKED_FOR = {"stop": "STOPPED", "start": "STARTED"}  # action → the state that a machine is in then
ON_ITS_WAY = {"STOPPING", "STARTING"}
SSH, LAST_PORT = 22, 65_535
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]{0,252}")  # nothing that ssh could take for an option
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Target:
    """A machine to connect to; *user* is empty if nobody says which account it has, *node* if no machine is known by that address."""

    host: str
    port: int = SSH
    user: str = ""
    node: str = ""


def target(outputs: Mapping[str, Any], resources: Sequence[Json], node: str | None) -> Target:
    """Return the machine to connect to: *node*, else the only one that has an address.

    Outputs win where they name an endpoint (``ssh://…``), since they know of ports that a site maps. Raises: NotFound, Refused; Conflict, if it does not run.
    """
    machines = dict(_machines(resources))
    ends = list(_endpoints(outputs))
    user = next(_users(outputs), "")
    found = _only(ends, machines) if node is None else _named(node, ends, machines)
    named = found.node or next((name for name, address in machines.items() if address == found.host), "")
    _require_running(
        [node] if node else [name for name, address in machines.items() if address == found.host], resources
    )
    return _safe(replace(found, user=found.user or user, node=named))


def name_of(resource: Json) -> str:
    """Return a machine's name in its deployment: ``server-0``."""
    about = resource.get("metadata", {})
    return str(resource.get("node") or about.get("instance_name") or resource.get("toscaNodeName") or "")


def address_of(resource: Json) -> str:
    return str(resource.get("public_address") or resource.get("metadata", {}).get("public_address") or "")


def _machines(resources: Sequence[Json]) -> Iterator[tuple[str, str]]:
    for each in resources:
        if (address := address_of(each)) and each.get("state") not in {"DELETED", "DELETING"}:
            yield name_of(each), address


def _endpoints(outputs: Mapping[str, Any]) -> Iterator[Target]:
    for text in _members(outputs):
        if isinstance(text, str) and text.startswith("ssh://"):
            with suppress(ValueError):  # of a port that is none
                read = urlsplit(text)
                yield Target(read.hostname or "", read.port or SSH, read.username or "")


def _users(outputs: Mapping[str, Any]) -> Iterator[str]:
    """Yield the accounts that outputs tell of, as TOSCA's credential does."""
    for each in _members(outputs):
        if isinstance(each, dict) and isinstance(each.get("user"), str):
            yield each["user"]


def _members(outputs: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the outputs, and what those that are lists hold."""
    for value in outputs.values():
        yield from value if isinstance(value, list) else [value]


def _only(ends: list[Target], machines: Mapping[str, str]) -> Target:
    if len(set(ends)) == 1:
        return ends[0]
    if not ends and len(machines) == 1:
        ((node, host),) = machines.items()
        return Target(host, node=node)
    if not ends and not machines:
        raise NotFound("no machine of it has an address to connect to", hint="is it running? indaco deployment show ID")
    raise Refused(f"which machine? one of {', '.join(machines) or 'its outputs'}", hint="indaco ssh ID NODE")


def _named(node: str, ends: list[Target], machines: Mapping[str, str]) -> Target:
    if node not in machines:
        raise NotFound(f"no machine {node} with an address; there are: {', '.join(machines) or 'none'}")
    matching = [end for end in ends if end.host == machines[node]]
    if len(set(matching)) == 1 and list(machines.values()).count(machines[node]) == 1:
        return replace(matching[0], node=node)
    return Target(machines[node], node=node)


def _require_running(names: Sequence[str], resources: Sequence[Json]) -> None:
    """Raises: Conflict, if each of *names*, whichever of them is meant, stands still."""
    states = {name: str(each.get("state")) for each in resources if (name := name_of(each)) in names}
    if states and all(state in {"STOPPED", *ON_ITS_WAY} for state in states.values()):
        told = ", ".join(f"{name} is {state}" for name, state in states.items())
        raise Conflict(f"{told}: nobody answers there", hint=f"indaco deployment start ID {' '.join(states)} --wait")


def _safe(found: Target) -> Target:
    """Raises: Refused, where an output could be taken for something else than an address."""
    if not _HOST.fullmatch(found.host) or not 0 < found.port <= LAST_PORT:
        raise Refused(f"{found.host!r} port {found.port} is no address to connect to")
    return found if _USER.fullmatch(found.user) else replace(found, user="")
