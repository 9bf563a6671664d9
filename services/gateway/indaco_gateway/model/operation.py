"""One deployment as its users see it: the request that was accepted, and the read model that events keep up to date."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

import pydantic
from pydantic import AwareDatetime

from indaco_common.contracts import gateway
from indaco_common.contracts.values import Group, Owner, Place, Ranked, Reason, instances
from indaco_common.errors import Conflict, NotFound
from indaco_common.ids import NAMESPACE, DeploymentId
from indaco_common.store import Aggregate

from .conflicts import KeyReused, WrongState
from .labels import MAX_SHARES, Change, Locked, Share, lines
from .power import Power

TIMELINE_LENGTH = 500  # steps; with MAX_DETAIL it bounds what each save writes
MAX_DETAIL = 500  # characters of one step


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


class Task(StrEnum):
    """What is going on, in INDIGO's words."""

    NONE = "NONE"
    BROKERING = "BROKERING"
    DEPLOYER = "DEPLOYER"


class Outcome(StrEnum):
    """How an attempt stands."""

    IN_PROGRESS = "in-progress"
    RUNNING = "running"
    FAILED = "failed"


class Attempt(pydantic.BaseModel):
    """One try at one place; *provider* is empty until the place is known."""

    attempt: int
    provider: str = ""
    region: str = ""
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    outcome: Outcome = Outcome.IN_PROGRESS
    reason: str = ""


class Machine(pydantic.BaseModel):
    """What is known of one machine that ran."""

    physical_id: str = ""
    public_address: str = ""
    cpu_milli: int = 0
    memory_mib: int = 0
    disk_gib: int = 0
    started_at: AwareDatetime
    stopped_at: AwareDatetime | None = None


class Life(pydantic.BaseModel):
    """The newest that the orchestrator said of the deployment as a whole."""

    status: Status
    reason: str = ""


class Part(pydantic.BaseModel):
    """What the template says of one TOSCA node; *ancestors* are the types that its own derives from, nearest first."""

    kind: str = "machine"
    ancestors: tuple[str, ...] = ()
    distribution: str = ""
    version: str = ""


class Step(pydantic.BaseModel):
    """One line of the timeline; *number* counts from 1 and is what a listener resumes from. *event* names what it tells of."""

    number: int
    at: AwareDatetime
    type: str
    status: Status
    title: str
    detail: str = ""
    event: str = ""


class Facts(Aggregate):
    """What is shown of a deployment, and what tells who may see it: whoever wants no more need not read the rest.

    Until ``created_at`` is set it is a mere claim on an id, which nobody sees.
    """

    KIND: ClassVar[str] = "operation"
    INDEX: ClassVar[tuple[str, ...]] = (
        "owner.subject", "owner.issuer", "group.path", "status", "created_at", "provider", "updated_at", "task",
        "search", "labels", "audience",
    )  # fmt: skip

    owner: Owner = Owner(issuer="", subject="")
    group: Group = Group(issuer="", path="")
    callback: str | None = None
    secret_inputs: tuple[str, ...] = ()  # names alone
    warnings: tuple[str, ...] = ()  # what was accepted and is worth a look
    name: str = ""
    tags: dict[str, str] = pydantic.Field(default_factory=dict)
    locked: str = ""  # why it must not be changed or deleted now; empty: it may
    shares: dict[str, Share] = pydantic.Field(
        default_factory=dict
    )  # path of a group of the owner's issuer → what it may
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None

    status: Status = Status.UNKNOWN
    reason: str = ""
    task: Task = Task.NONE

    place: Place | None = None  # of the newest attempt that has one
    ranked: tuple[Ranked, ...] = ()
    refused: tuple[Reason, ...] = ()
    attempts: list[Attempt] = pydantic.Field(default_factory=list)
    outputs: dict[str, Any] = pydantic.Field(default_factory=dict)
    secret_outputs: tuple[str, ...] = ()

    @property
    def provider(self) -> str | None:
        return self.place.provider if self.place else None

    @property
    def search(self) -> str:
        """What a user's text is looked for in; its case does not count."""
        return f"{self.name.casefold()}\n{self.id}"

    @property
    def labels(self) -> str:
        return lines([f"{key}={value}" for key, value in sorted(self.tags.items())])

    @property
    def audience(self) -> str:
        return lines(sorted(self.shares))


class Operation(Facts):
    """A deployment.

    What events say is kept as facts that do not depend on the order in which they are heard; ``status``, ``task`` and ``reason``
    follow from them (:mod:`.views`).
    """

    fingerprint: str = ""  # of the request, for repeats under one idempotency key
    template: str = ""  # digest of the blob that holds it
    inputs: str = ""  # digest of the blob that holds those that are no secrets, as JSON; empty: none were given
    imports: dict[str, str] = pydantic.Field(default_factory=dict)  # URL → digest of the text that it was planned with
    types: dict[str, str] = pydantic.Field(default_factory=dict)  # TOSCA node → its type
    parts: dict[str, Part] = pydantic.Field(default_factory=dict)  # TOSCA node → what else is known of it
    nodes: tuple[str, ...] = ()  # machines that were asked for
    placed: int = 0  # which attempt that is
    building: int = 0  # the newest attempt heard of; the machines are its own
    machines: dict[str, Machine] = pydantic.Field(default_factory=dict)
    power: dict[str, Power] = pydantic.Field(default_factory=dict)  # of those that were stopped, or asked to be
    runs: tuple[str, ...] = ()  # machines that were there when all ran last
    lost: tuple[str, ...] = ()  # machines that went without anybody having asked
    updates: int = 0  # how many were asked for
    growth_refused: tuple[Reason, ...] = ()  # why there is no place for what the last update asked for
    awaited: str | None = None  # the newest word about its life when the last update was asked for
    life: Life | None = None
    deleting: bool = False
    delete_failure: str | None = None  # None: not heard of since deletion was last asked for
    deleted: bool = False
    debris: tuple[str, ...] = ()
    seen: dict[str, str] = pydantic.Field(default_factory=dict)  # what is replaced by what is newer → its sequence
    steps: int = 0  # of the timeline, those that it has dropped too
    actions: int = 0  # how many were asked for
    timeline: list[Step] = pydantic.Field(default_factory=list)

    @property
    def is_update_awaited(self) -> bool:
        """Was an update asked for, and nothing been heard of the deployment's life since?"""
        return self.awaited is not None and self.seen.get("life", "") <= self.awaited

    def claim(self, fingerprint: str) -> None:
        """Keep the id for one request, before anything is done for it. Raises: KeyReused; Conflict, if it was accepted meanwhile."""
        self._check(fingerprint)
        self.fingerprint = fingerprint

    def accept(
        self,
        request: gateway.DeploymentRequested,
        *,
        fingerprint: str,
        template: str,
        types: Mapping[str, str],
        callback: str | None,
        now: datetime,
        warnings: tuple[str, ...] = (),
        name: str = "",
        tags: Mapping[str, str] | None = None,
        inputs: str = "",
        parts: Mapping[str, Part] | None = None,
    ) -> None:
        """Take a new request; *template* and *inputs* are digests of blobs. Raises: KeyReused; Conflict, if it was accepted meanwhile."""
        self._check(fingerprint)
        self.owner, self.group, self.fingerprint = request.owner, request.group, fingerprint
        self.template, self.types, self.callback = template, dict(types), callback
        self.inputs, self.imports, self.parts = inputs, request.imports, dict(parts or {})
        self.nodes, self.warnings = tuple(instances(request.nodes)), warnings
        self.secret_inputs, self.name, self.tags = request.secret_inputs, name, dict(tags or {})
        self.created_at = self.updated_at = now
        self.status, self.task = Status.CREATE_IN_PROGRESS, Task.BROKERING
        self.note(now, "gateway.deployment.requested", "Request accepted", f"for the group {request.group.path}")
        self.emit(request)

    def is_repeat(self, fingerprint: str) -> bool:
        """Has this very request been accepted? Raises: KeyReused, if it was another."""
        if self.fingerprint not in ("", fingerprint):
            raise KeyReused
        return self.created_at is not None

    def delete(self, *, force: bool, now: datetime) -> None:
        """Want it gone. Raises: Locked; WrongState, if it is, or if that was asked before and is not to be forced now."""
        self.require_unlocked()
        if self.deleted or (self.status is Status.DELETE_IN_PROGRESS and not force):
            raise WrongState(f"Deployment already in {self.status} state.")
        self.deleting, self.delete_failure, self.reason = True, None, ""
        self.status, self.task, self.updated_at = Status.DELETE_IN_PROGRESS, Task.DEPLOYER, now
        self.note(now, "gateway.deployment.deletion-requested", "Deletion requested", "forced" if force else "")
        self.emit(gateway.DeploymentDeletionRequested(deployment_id=DeploymentId(self.id), force=force))

    def reset(self, now: datetime) -> None:
        """Let a deletion that hangs be asked for again. Raises: WrongState, if none is under way."""
        if self.status is not Status.DELETE_IN_PROGRESS:
            raise WrongState(f"Cannot reset a deployment in {self.status} state")
        self.delete_failure, self.reason = "", ""
        self.status, self.task, self.updated_at = Status.DELETE_FAILED, Task.NONE, now
        self.note(now, "gateway.deployment.reset", "Reset", "")

    def require_unlocked(self) -> None:
        """Raises: Locked."""
        if self.locked:
            raise Locked(self.locked)

    def lock(self, reason: str, now: datetime) -> None:
        """Keep it from being changed and deleted, by whomever; again: for another reason. Raises: WrongState, if its deletion is under way."""
        if self.deleted or self.status is Status.DELETE_IN_PROGRESS:
            raise WrongState(f"A lock comes too late for a deployment in {self.status} state")
        if self.locked != reason:
            self.locked, self.updated_at = reason, now
            self.note(now, "gateway.deployment.locked", "Locked", reason)

    def unlock(self, now: datetime) -> None:
        if self.locked:
            self.locked, self.updated_at = "", now
            self.note(now, "gateway.deployment.unlocked", "Unlocked", "")

    def describe(self, change: Change, now: datetime) -> None:
        """Name and tag it anew. Raises: WrongState, if there would be too many tags."""
        name, tags = self.name if change.name is None else change.name, change.of(self.tags)
        if (name, tags) != (self.name, self.tags):
            self.name, self.tags, self.updated_at = name, tags, now

    def share(self, group: str, access: Share, now: datetime) -> None:
        """Let the members of *group*, of the owner's issuer, see it, or change it too. Raises: WrongState, if there are too many."""
        if self.shares.get(group) == access:
            return
        if group not in self.shares and len(self.shares) >= MAX_SHARES:
            raise WrongState(f"It is shared with {MAX_SHARES} groups; take it from one first")
        self.shares, self.updated_at = {**self.shares, group: access}, now
        self.note(now, "gateway.deployment.shared", f"Shared with {group}", f"to {access}")

    def unshare(self, group: str, now: datetime) -> None:
        """Raises: NotFound."""
        if group not in self.shares:
            raise NotFound(f"It is not shared with {brief(group, 100)}")
        self.shares, self.updated_at = {path: access for path, access in self.shares.items() if path != group}, now
        self.note(now, "gateway.deployment.unshared", f"No longer shared with {group}", "")

    def note(self, at: datetime, type: str, title: str, detail: str, event: str = "") -> None:
        """Add a line to the timeline; the oldest are dropped beyond its length."""
        self.steps += 1
        self.timeline.append(
            Step(
                number=self.steps, at=at, type=type, status=self.status, title=brief(title), detail=brief(detail),
                event=event,
            )
        )  # fmt: skip
        del self.timeline[:-TIMELINE_LENGTH]

    def _check(self, fingerprint: str) -> None:
        if self.is_repeat(fingerprint):
            raise Conflict(f"deployment {self.id} exists")


def brief(text: str, limit: int = MAX_DETAIL) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def resource_id(deployment: str, node: str) -> str:
    """Return the id under which users find a machine of a deployment, whichever attempt builds it."""
    return str(uuid.uuid5(NAMESPACE, f"resource\n{deployment}\n{node}"))
