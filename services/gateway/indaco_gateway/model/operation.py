"""One deployment as its users see it: the request that was accepted, and the read model that events keep up to date."""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import pydantic
from pydantic import AwareDatetime

from indaco_common.contracts import gateway
from indaco_common.contracts.values import Group, Owner, Place, Ranked, Reason, instances
from indaco_common.errors import Conflict
from indaco_common.ids import DeploymentId, uuid7
from indaco_common.store import Aggregate

TIMELINE_LENGTH = 500


class Status(StrEnum):
    """INDIGO's words."""

    CREATE_IN_PROGRESS = "CREATE_IN_PROGRESS"
    CREATE_COMPLETE = "CREATE_COMPLETE"
    CREATE_FAILED = "CREATE_FAILED"
    UPDATE_IN_PROGRESS = "UPDATE_IN_PROGRESS"
    UPDATE_COMPLETE = "UPDATE_COMPLETE"
    UPDATE_FAILED = "UPDATE_FAILED"
    DELETE_IN_PROGRESS = "DELETE_IN_PROGRESS"
    DELETE_COMPLETE = "DELETE_COMPLETE"
    DELETE_FAILED = "DELETE_FAILED"
    UNKNOWN = "UNKNOWN"


CREATING = {Status.UNKNOWN, Status.CREATE_IN_PROGRESS}
DELETING = {Status.DELETE_IN_PROGRESS, Status.DELETE_COMPLETE, Status.DELETE_FAILED}


class Task(StrEnum):
    """What is going on, in INDIGO's words."""

    NONE = "NONE"
    BROKERING = "BROKERING"
    DEPLOYER = "DEPLOYER"


class Attempt(pydantic.BaseModel):
    """One try at one place."""

    attempt: int
    provider: str
    region: str = ""
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    outcome: str = "in-progress"  # in-progress, running, failed
    reason: str = ""


class Resource(pydantic.BaseModel):
    """One machine."""

    uuid: str
    attempt: int
    node: str
    state: str  # INDIGO's node states
    created_at: AwareDatetime
    updated_at: AwareDatetime
    physical_id: str = ""
    public_address: str = ""


class Step(pydantic.BaseModel):
    """One line of the timeline; *number* counts from 1 and is what a listener resumes from."""

    number: int
    at: AwareDatetime
    type: str
    status: Status
    title: str
    detail: str = ""


class Operation(Aggregate):
    """A deployment. Events of one source count by their sequence: an older one may add facts, but not turn the status back."""

    KIND: ClassVar[str] = "operation"
    INDEX: ClassVar[tuple[str, ...]] = (
        "owner.subject",
        "owner.issuer",
        "group.path",
        "status",
        "created_at",
        "provider",
        "updated_at",
    )

    owner: Owner = Owner(issuer="", subject="")
    group: Group = Group(issuer="", path="")
    fingerprint: str = ""  # of the request, for repeats under one idempotency key
    template: str = ""  # digest of the blob that holds it
    ssh_keys: tuple[str, ...] = ()
    callback: str | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None

    status: Status = Status.UNKNOWN
    reason: str = ""
    task: Task = Task.NONE
    outputs: dict[str, Any] = pydantic.Field(default_factory=dict)
    secret_outputs: tuple[str, ...] = ()
    place: Place | None = None
    ranked: tuple[Ranked, ...] = ()
    refused: tuple[Reason, ...] = ()
    attempts: list[Attempt] = pydantic.Field(default_factory=list)
    resources: list[Resource] = pydantic.Field(default_factory=list)
    timeline: list[Step] = pydantic.Field(default_factory=list)
    steps: int = 0
    seen: dict[str, str] = pydantic.Field(default_factory=dict)  # source → its newest sequence

    @property
    def provider(self) -> str | None:
        return self.place.provider if self.place else None

    def accept(
        self,
        request: gateway.DeploymentRequested,
        *,
        fingerprint: str,
        template: str,
        callback: str | None,
        now: datetime,
    ) -> None:
        """Take a new request; *template* is the digest of its blob. Raises: Conflict, if there is one already."""
        if self.created_at is not None:
            raise Conflict(f"deployment {self.id} exists")
        self.owner, self.group, self.fingerprint = request.owner, request.group, fingerprint
        self.template, self.ssh_keys, self.callback = template, request.ssh_keys, callback
        self.created_at = self.updated_at = now
        self.status, self.task = Status.CREATE_IN_PROGRESS, Task.BROKERING
        self.resources = [
            Resource(uuid=uuid7(), attempt=0, node=name, state="INITIAL", created_at=now, updated_at=now)
            for name in instances(request.nodes)
        ]
        self.note(now, "gateway.deployment.requested", "Request accepted", f"for the group {request.group.path}")
        self.emit(request)

    def delete(self, *, force: bool, now: datetime) -> None:
        """Want it gone. Raises: Conflict, if that was asked before and is not to be forced now."""
        if self.status is Status.DELETE_COMPLETE or (self.status is Status.DELETE_IN_PROGRESS and not force):
            raise Conflict(f"Deployment already in {self.status} state.")
        self.status, self.task, self.reason, self.updated_at = Status.DELETE_IN_PROGRESS, Task.DEPLOYER, "", now
        for resource in self.resources:
            resource.state = "DELETING" if resource.state != "DELETED" else resource.state
        self.note(now, "gateway.deployment.deletion-requested", "Deletion requested", "forced" if force else "")
        self.emit(gateway.DeploymentDeletionRequested(deployment_id=DeploymentId(self.id), force=force))

    def reset(self, now: datetime) -> None:
        """Let a deletion that hangs be asked for again. Raises: Conflict, if none is under way."""
        if self.status is not Status.DELETE_IN_PROGRESS:
            raise Conflict(f"Cannot reset a deployment in {self.status} state")
        self.status, self.task, self.reason, self.updated_at = Status.DELETE_FAILED, Task.NONE, "", now
        self.note(now, "gateway.deployment.reset", "Reset", "")

    def note(self, at: datetime, type: str, title: str, detail: str) -> None:
        """Add a line to the timeline; the oldest are dropped beyond its length."""
        self.steps += 1
        self.timeline.append(
            Step(number=self.steps, at=at, type=type, status=self.status, title=title, detail=detail[:2000])
        )
        del self.timeline[:-TIMELINE_LENGTH]
