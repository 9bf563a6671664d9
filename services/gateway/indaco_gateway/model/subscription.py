"""Who is told of what: subscriptions of users, and the callback that a deployment was submitted with."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import AwareDatetime

from indaco_common.contracts.values import Owner
from indaco_common.errors import AlreadyHandled
from indaco_common.ids import uuid7
from indaco_common.store import Aggregate

from .conflicts import WrongState
from .delivery import Delivery, Queue, Result
from .operation import Operation, Step

PING = "subscription.ping"
MAX_PATTERNS = 20
MAX_CLAIMED_GROUPS = 500
CLAIMS_LAST = timedelta(hours=24)  # what a token said is believed for that long without seeing another
CLAIMS_REFRESH = timedelta(minutes=30)  # not written at each request
SETTLING = timedelta(seconds=3)  # until every gateway process knows of a change
FORGET_AFTER = timedelta(hours=1)  # what is left of a deleted subscription: every process has heard of it by then
MAX_CALLBACKS = 50  # of one deployment that wait

TYPES = frozenset({
    "deployment.requested", "deployment.update-requested", "deployment.action-requested", "deployment.deletion-requested",
    "deployment.locked", "deployment.unlocked", "deployment.shared", "deployment.unshared", "deployment.reset",
    "placement.reserved", "placement.rejected", "attempt.started", "attempt.failed", "attempt.cleaned",
    "node.started", "node.stopped", "node.resumed", "node.action-failed", "node.removed",
    "deployment.running", "deployment.updating", "deployment.update-failed", "deployment.outputs-changed", "deployment.degraded",
    "deployment.failed", "deployment.deleting", "deployment.delete-failed", "deployment.deleted", PING,
})  # fmt: skip
"""Every type that a subscriber may be told of."""

NEAREST = 3  # names that are told to whoever has mistyped one

_PATTERN = re.compile(r"\*|(\*|[a-z][a-z-]*)\.(\*|[a-z][a-z-]*)")
Scope = Literal["own", "readable"]


class SubscriptionState(StrEnum):
    """What is done about events."""

    ACTIVE = "active"
    PAUSED = "paused"
    DELETED = "deleted"


class Claims(pydantic.BaseModel):
    """What the owner's token said when it was last seen: enough to decide what the owner may read, for a day."""

    groups: Annotated[tuple[str, ...], pydantic.Field(max_length=MAX_CLAIMED_GROUPS)] = ()
    scopes: tuple[str, ...] = ()
    seen_at: AwareDatetime

    @property
    def expire_at(self) -> datetime:
        return self.seen_at + CLAIMS_LAST


class Terms(pydantic.BaseModel):
    """What a subscription is for. *group* and *deployment* narrow it; *types* are patterns such as ``deployment.*``."""

    url: str
    types: tuple[str, ...] = ("*",)
    scope: Scope = "own"
    group: str | None = None
    deployment: str | None = None
    description: str = ""

    def cover(self, operation: Operation) -> bool:
        """Is it about this deployment? Whether its owner may know of it is another question."""
        if self.deployment is not None and self.deployment != operation.id:
            return False
        return self.group is None or self.group == operation.group.path

    def want(self, type: str) -> bool:
        return type == PING or any(matches(pattern, type) for pattern in self.types)


class Subscription(Aggregate):
    """One webhook of one user."""

    KIND: ClassVar[str] = "subscription"
    INDEX: ClassVar[tuple[str, ...]] = ("owner.issuer", "owner.subject", "state", "changed_at")

    owner: Owner = Owner(issuer="", subject="")
    terms: Terms = Terms(url="")
    claims: Claims | None = None
    state: SubscriptionState = SubscriptionState.DELETED
    reason: str = ""  # why it is paused
    created_at: AwareDatetime | None = None
    changed_at: AwareDatetime | None = None  # what other processes look for; deliveries do not count
    effective_at: AwareDatetime | None = None  # from when on nothing is missed
    secret_changed_at: AwareDatetime | None = None
    queue: Queue = pydantic.Field(default_factory=Queue)

    def begin(self, owner: Owner, terms: Terms, claims: Claims, now: datetime) -> None:
        self.owner, self.terms, self.claims, self.created_at = owner, terms, claims, now
        self.secret_changed_at, self.state = now, SubscriptionState.ACTIVE
        self._changed(now)

    def change(self, terms: Terms, claims: Claims, now: datetime) -> None:
        self.terms, self.claims = terms, claims
        self.queue.wake()
        self._changed(now)

    def saw(self, claims: Claims) -> bool:
        """Take newer claims; return whether they are worth a save."""
        known = self.claims
        if known is not None and claims.seen_at - known.seen_at < CLAIMS_REFRESH and claims.groups == known.groups:
            return False
        self.claims = claims
        self.changed_at = claims.seen_at
        return True

    def pause(self, reason: str, now: datetime) -> None:
        """Send nothing and collect nothing; what waits stays."""
        if self.state is SubscriptionState.ACTIVE:
            self.state, self.reason = SubscriptionState.PAUSED, reason
            self._changed(now)

    def resume(self, now: datetime) -> None:
        """Go on, with what waits first. Raises: WrongState, if it is not paused."""
        if self.state is not SubscriptionState.PAUSED:
            raise WrongState("The subscription is not paused")
        self.state, self.reason, self.queue.dead_in_row = SubscriptionState.ACTIVE, "", 0
        self.queue.wake()
        self._changed(now)

    def delete(self, now: datetime) -> None:
        """Leave nothing but the fact, so that every process hears of it."""
        self.state, self.reason, self.queue, self.terms, self.claims = (
            SubscriptionState.DELETED, "", Queue(), Terms(url=""), None
        )  # fmt: skip
        self._changed(now)

    @property
    def since(self) -> datetime | None:
        """When it was made, changed or resumed last."""
        return self.effective_at - SETTLING if self.effective_at is not None else None

    def rotated(self, now: datetime) -> None:
        """Note a renewal; of two at once that are noted in the wrong order, the later counts."""
        self.secret_changed_at = max(now, self.secret_changed_at or now)

    def ping(self, now: datetime, limit: int) -> Delivery:
        """Queue a test. Raises: WrongState, if nothing would be sent now."""
        if self.state is not SubscriptionState.ACTIVE:
            raise WrongState(f"The subscription is paused: {self.reason}; resume it first")
        if len(self.queue.waiting) >= limit:
            raise WrongState(f"{limit} deliveries are waiting; the receiver takes none")
        delivery = Delivery(id=uuid7(), type=PING, created_at=now, next_at=now)
        self.queue.add(delivery)
        self._schedule()
        return delivery

    def tell(self, deliveries: Iterable[Delivery], *, limit: int, now: datetime) -> None:
        """Queue them. Of too many that wait the oldest are given up; if the receiver takes nothing, that pauses it.

        Raises: AlreadyHandled, if it has or wants none of them.
        """
        added = [self.state is SubscriptionState.ACTIVE and self.queue.add(delivery) for delivery in deliveries]
        if not any(added):
            raise AlreadyHandled(f"subscription {self.id} has these deliveries, or is not active")
        if self.queue.bury_beyond(limit, now) and self.queue.failing:
            self.pause(f"more than {limit} deliveries were waiting", now)
        self._schedule()

    def take(self, token: str, now: datetime) -> list[Delivery]:
        due = self.queue.take(token, now) if self.state is SubscriptionState.ACTIVE else []
        self._schedule()
        return due

    def settle(
        self, token: str, results: Mapping[str, Result], *, now: datetime, spread: float, dead_limit: int
    ) -> list[Delivery]:
        """Note what came of the tries, and return them; a receiver that is gone, or that takes nothing, pauses the subscription."""
        tried = self.queue.settle(token, results, now=now, spread=spread)
        if any(result.is_gone for result in results.values()):
            self.pause("the receiver answered 410 Gone", now)
        elif self.queue.dead_in_row >= dead_limit:
            self.pause(f"{self.queue.dead_in_row} deliveries in a row were given up", now)
        self._schedule()
        return tried

    def retry(self, id: str, now: datetime) -> Delivery:
        """Raises: NotFound; WrongState."""
        if self.state is not SubscriptionState.ACTIVE:
            raise WrongState(f"The subscription is paused: {self.reason}; resume it first")
        delivery = self.queue.retry(id, now)
        self._schedule()
        return delivery

    def _changed(self, now: datetime) -> None:
        self.changed_at, self.effective_at = now, now + SETTLING
        self._schedule()

    def _schedule(self) -> None:
        self.due_at = self.queue.wake_at() if self.state is SubscriptionState.ACTIVE else None
        if self.state is SubscriptionState.DELETED and self.changed_at is not None:
            self.due_at = self.changed_at + FORGET_AFTER


class Callback(Aggregate):
    """The deliveries to the callback of one deployment, under the deployment's id."""

    KIND: ClassVar[str] = "callback"

    queue: Queue = pydantic.Field(default_factory=Queue)

    def tell(self, delivery: Delivery, now: datetime) -> None:
        """Raises: AlreadyHandled, if it has it."""
        if not self.queue.add(delivery):
            raise AlreadyHandled(f"the callback of {self.id} has this delivery")
        self.queue.bury_beyond(MAX_CALLBACKS, now)
        self._schedule()

    def take(self, token: str, now: datetime) -> list[Delivery]:
        due = self.queue.take(token, now)
        self._schedule()
        return due

    def settle(self, token: str, results: Mapping[str, Result], *, now: datetime, spread: float) -> list[Delivery]:
        tried = self.queue.settle(token, results, now=now, spread=spread)
        self._schedule()
        return tried

    def retry(self, id: str, now: datetime) -> Delivery:
        """Raises: NotFound."""
        delivery = self.queue.retry(id, now)
        self._schedule()
        return delivery

    def _schedule(self) -> None:
        self.due_at = self.queue.wake_at()


def is_pattern(text: str) -> bool:
    """Is *text* a name or a pattern of event types: ``*``, or two words of which either may be ``*``?"""
    return _PATTERN.fullmatch(text) is not None


def matches(pattern: str, type: str) -> bool:
    if pattern == "*":
        return True
    wanted, given = pattern.split("."), type.split(".")
    return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))


def is_possible(pattern: str) -> bool:
    """May anything ever match *pattern*?"""
    return any(matches(pattern, type) for type in TYPES)


def nearest(pattern: str) -> list[str]:
    """Return the names and patterns that are most like *pattern* and can match something, the likest first."""
    words = [type.split(".") for type in TYPES]
    known = TYPES | {f"{first}.*" for first, _ in words} | {f"*.{last}" for _, last in words}
    return difflib.get_close_matches(pattern, sorted(known), n=NEAREST, cutoff=0)


def type_of(step: Step) -> str:
    """Return the type under which subscribers know a step: ``deployment.running``, whichever service said it."""
    return step.type.partition(".")[2]


def news(timeline: Sequence[Step], event: str | None) -> list[Step]:
    """Return the steps to tell of when the one made of *event* (None: one that a user made, the last) has been saved.

    These are it and what users did right before: a process may have died before it told of that.
    """
    last = len(timeline) - 1
    if event is not None:
        while last >= 0 and timeline[last].event != event:
            last -= 1
    elif last >= 0 and timeline[last].event:
        return []
    first = last
    while first > 0 and not timeline[first - 1].event:
        first -= 1
    return list(timeline[max(first, 0) : last + 1])


_CALLED_BACK = frozenset({
    "orchestrator.attempt.started", "orchestrator.deployment.updating", "orchestrator.deployment.running",
    "orchestrator.deployment.failed", "orchestrator.deployment.update-failed", "orchestrator.deployment.delete-failed",
    "orchestrator.deployment.deleted",
})  # fmt: skip


def is_called_back(step: Step) -> bool:
    """Is a callback told of this step: accepted by a provider, completed, failed, deleted?"""
    return step.type in _CALLED_BACK
