"""A dry run: what a template would come to, and what sla says about where it would go. It is dropped when it is due."""

from datetime import datetime, timedelta
from typing import ClassVar

import pydantic
from pydantic import AwareDatetime

from indaco_common.contracts import gateway, sla
from indaco_common.contracts.values import Group, Owner, Proposed, Reason
from indaco_common.store import Aggregate

LIFE = timedelta(minutes=10)  # of an inquiry: who wants to know later asks again, since places change


class PlannedPort(pydantic.BaseModel):
    """A port range that would be open to *remote_cidr*."""

    protocol: str
    port: int
    port_end: int
    remote_cidr: str


class PlannedSoftware(pydantic.BaseModel):
    """A component on a machine; those of a lower *level* are configured first."""

    node: str
    type: str
    by: str
    level: int


class PlannedNode(pydantic.BaseModel):
    """*count* equal machines or containers, or a bucket; 0 and "" of a size: the template does not ask for any."""

    name: str
    type: str
    kind: str
    count: int
    level: int
    depends_on: tuple[str, ...]
    cpu_milli: int
    memory_mib: int
    disk_gib: int
    gpus: int
    gpu_model: str
    instance_type: str
    image: dict[str, str]
    public_ip: bool
    ports: tuple[PlannedPort, ...]
    volumes_gib: tuple[int, ...]
    software: tuple[PlannedSoftware, ...]


class Planned(pydantic.BaseModel):
    """What a template would come to. Nodes of a lower *level* come first; *levels* is how many there are."""

    nodes: tuple[PlannedNode, ...]
    levels: int
    totals: dict[str, int]
    warnings: tuple[str, ...]
    secret_inputs: tuple[str, ...]  # names alone


class Placement(pydantic.BaseModel):
    """Where the machines would go, best first, and why not elsewhere, as of *at*. Nothing is held: another may be faster.

    The lists are cut at 50 and 100; the totals count all. *left* is what the group's quota would have left there.
    """

    ranked: tuple[Proposed, ...]
    refused: tuple[Reason, ...]
    ranked_total: int
    refused_total: int
    at: AwareDatetime


class Inquiry(Aggregate):
    """One question of one user. *plan* is what would be made, as users see it; secret inputs are neither in it nor in what is sent."""

    KIND: ClassVar[str] = "inquiry"

    owner: Owner = Owner(issuer="", subject="")
    group: Group = Group(issuer="", path="")
    created_at: AwareDatetime | None = None
    plan: Planned = Planned(nodes=(), levels=0, totals={}, warnings=(), secret_inputs=())
    placement: Placement | None = None

    @classmethod
    def about(cls, request: gateway.PlanRequested, plan: Planned, now: datetime) -> "Inquiry":
        """Begin one, which asks sla and is due when nobody waits for the answer any more."""
        inquiry = cls(
            id=request.inquiry_id, owner=request.owner, group=request.group, created_at=now, plan=plan,
            due_at=request.expires_at,
        )  # fmt: skip
        inquiry.emit(request)
        return inquiry

    def answered(self, event: sla.PlacementProposed) -> None:
        """Keep the first answer; a second one is of a repeat."""
        if self.placement is None:
            self.placement = Placement(
                ranked=event.ranked, refused=event.refused, ranked_total=event.ranked_total,
                refused_total=event.refused_total, at=event.at,
            )  # fmt: skip
