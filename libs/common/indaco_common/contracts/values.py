"""Values that several messages share."""

from typing import Annotated, Literal

import pydantic

from indaco_common.messages import Value
from indaco_common.units import ResourceVector

Slug = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
NodeName = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Attempt = Annotated[int, pydantic.Field(ge=1, le=10_000)]
Slot = Annotated[str, pydantic.StringConstraints(pattern=r"^(?:main|u[0-9]{1,6})$")]
MAIN: Slot = "main"


class Owner(Value):
    """Who a deployment belongs to: a subject is unique only at its issuer."""

    issuer: str
    subject: str


class Group(Value):
    """A community: a path without leading slash, within one issuer (never a bare name)."""

    issuer: str
    path: str


class PortRule(Value):
    """One port range to open, from where, under a name of the template."""

    protocol: Literal["tcp", "udp", "igmp"] = "tcp"
    port: int
    port_end: int | None = None
    remote_cidr: str = "0.0.0.0/0"
    name: str = ""


class Image(Value):
    """What a node wants to run; empty members do not matter."""

    name: str = ""
    architecture: str = ""
    type: str = ""
    distribution: str = ""
    version: str = ""


NodeKind = Literal["machine", "container", "bucket"]


class NodeNeeds(Value):
    """What one TOSCA node needs, per instance; *count* instances of it."""

    kind: NodeKind = "machine"
    count: Annotated[int, pydantic.Field(ge=0, le=1000)] = 1
    needs: ResourceVector
    image: Image = Image()
    instance_type: str = ""
    gpu_model: str = ""
    ports: tuple[PortRule, ...] = ()


class Policy(Value):
    """The user's wishes for the place; empty means any."""

    provider: str = ""
    region: str = ""
    agreement: str = ""
    exclude: tuple[str, ...] = ()


class PlacedNode(Value):
    """One node instance at a place: the site's flavor and image for it, and what that takes from the quota."""

    flavor: str = ""
    image: str = ""
    needs: ResourceVector


class Place(Value):
    """Where an attempt may build: one project in one region of one provider, under one agreement."""

    provider: Slug
    kind: str
    endpoint: str
    region: str
    project: str
    agreement: str
    simulated: bool = False


class Reason(Value):
    """Why a place was refused, for people and programs; *need*, *available*, *limit* in the unit of *resource*."""

    provider: str
    region: str = ""
    code: str
    detail: str
    resource: str = ""
    need: int | None = None
    available: int | None = None
    limit: int | None = None


class Ranked(Value):
    """A place that fits, with its score in [0, 1] and the terms that made it."""

    provider: str
    region: str
    score: float
    terms: dict[str, float] = pydantic.Field(default_factory=dict)


class Proposed(Ranked):
    """A place that would do: what each TOSCA node would be there, and what would be left of the group's quota."""

    agreement: str
    kind: str
    simulated: bool = False
    nodes: dict[NodeName, PlacedNode]
    left: ResourceVector = ResourceVector()


class Failure(Value):
    """Why an attempt or a deployment failed: a stable code and a sentence, without secrets."""

    code: str
    detail: str


def instances(nodes: dict[str, NodeNeeds]) -> dict[NodeName, NodeNeeds]:
    """Return instance name → needs: ``<node>-<n>``, n from 0; the one place that names machines."""
    return {f"{name}-{n}": needs for name, needs in sorted(nodes.items()) for n in range(needs.count)}
