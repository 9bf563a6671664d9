"""Which subscriptions there are, in memory: an event that concerns nobody costs no look into the store.

A save in this process is known at once, one in another within a second, by a look for what changed last. Until then an event may pass a new
subscription by; its ``effective_at`` says from when on none does.
"""

import asyncio
import itertools
from collections.abc import Hashable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import structlog

from indaco_common.clock import Clock
from indaco_common.contracts.values import Owner
from indaco_common.errors import Unavailable
from indaco_common.hints import Hints
from indaco_common.store import Query, Repository
from indaco_gateway.model.operation import Operation, Step
from indaco_gateway.model.subscription import Claims, Subscription, SubscriptionState, Terms, type_of

POLL_S = 1.0
PAGE = 100
ROLES_EVERY = 10  # polls: rules that give roles may have changed
LOOK = 5  # newest changes that are looked at: clocks of processes differ, so that a later change may seem the older
OVERLAP = timedelta(seconds=30)  # by which clocks of processes may differ

K = TypeVar("K", bound=Hashable)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Readers(Protocol):
    """What decides about the deployments of others."""

    def may_read(self, owner: Owner, claims: Claims, operation: Operation, /) -> bool:
        """May *owner*, of whom no more is known than *claims*, read *operation*?"""

    def has_role(self, owner: Owner, claims: Claims, /) -> bool:
        """Does a rule give *owner* a role, by which deployments of others may be read that are not shared?"""


@dataclass(frozen=True, slots=True)
class Listener:
    """What must be known of an active subscription to see whether an event is for it."""

    id: str
    owner: Owner
    terms: Terms
    claims: Claims | None
    since: datetime | None

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of which deployments that are shared with them are looked at."""
        return self.claims.groups if self.terms.scope == "readable" and self.claims is not None else ()

    def wants(self, step: Step) -> bool:
        """Is it asked for, and no step that a user made before there was the subscription, or while it was paused?"""
        is_old = not step.event and self.since is not None and step.at < self.since
        return not is_old and self.terms.want(type_of(step))


class Listeners:
    """All active subscriptions, by whose deployments they may be about: those of their owner, those shared with a group, or any."""

    def __init__(self, subscriptions: Repository[Subscription], readers: Readers, hints: Hints, clock: Clock) -> None:
        self._subscriptions, self._readers, self._clock = subscriptions, readers, clock
        self._known: dict[str, Listener] = {}
        self._by_owner: dict[Owner, set[str]] = {}
        self._by_group: dict[tuple[str, str], set[str]] = {}  # (issuer, path) → those of members, with scope "readable"
        self._with_role: set[str] = set()
        self._versions: dict[str, int] = {}
        self._seen: list[tuple[str, datetime | None]] = []
        hints.on_saved(Subscription, self._note)

    @property
    def is_empty(self) -> bool:
        return not self._known

    def of(self, operation: Operation, steps: list[Step]) -> dict[str, list[Step]]:
        """Return the ids of those who want, and may know of, some of *steps*, with these."""
        ids = self._by_owner.get(operation.owner, set()) | self._with_role
        for group in operation.shares:
            ids |= self._by_group.get((operation.owner.issuer, group), set())
        found = {}
        for listener in (self._known[id] for id in sorted(ids)):
            wanted = [step for step in steps if listener.wants(step)]
            if wanted and listener.terms.cover(operation) and self.may_know(listener, operation):
                found[listener.id] = wanted
        return found

    def may_know(self, listener: "Listener | Subscription", operation: Operation) -> bool:
        """The owner of the deployment may; others as far as their claims, which are not believed for long, let them read it."""
        if operation.created_at is None:
            return False
        if operation.owner == listener.owner:
            return True
        if listener.terms.scope == "own" or listener.claims is None or self._clock.now() >= listener.claims.expire_at:
            return False
        return self._readers.may_read(listener.owner, listener.claims, operation)

    async def load(self) -> None:
        """Learn of all, before the first event is handled. Raises: Unavailable."""
        offset, query = 0, Query(equal={"state": SubscriptionState.ACTIVE.value}, limit=PAGE, is_counted=False)
        while True:
            found, _ = await self._subscriptions.find(replace(query, offset=offset))
            for subscription in found:
                self._note(subscription)
            if len(found) < PAGE:
                return
            offset += PAGE

    async def run(self) -> None:
        """Follow what other processes change."""
        for count in itertools.count(1):
            await asyncio.sleep(POLL_S)
            if count % ROLES_EVERY == 0:
                self._with_role = {id for id, listener in self._known.items() if self._has_role(listener)}
            try:
                await self._look()
            except Unavailable as error:
                log.warning("listeners.hindered", error=error.detail)

    async def _look(self) -> None:
        query = Query(order_by="changed_at", limit=PAGE, is_counted=False)
        newest, _ = await self._subscriptions.find(replace(query, limit=LOOK))
        seen = [(found.id, found.changed_at) for found in newest]
        if seen == self._seen or not newest or newest[0].changed_at is None:
            return
        since, offset = newest[0].changed_at - OVERLAP, 0
        if self._seen and self._seen[0][1] is not None:
            since = min(since, self._seen[0][1] - OVERLAP)
        while True:
            page, _ = await self._subscriptions.find(replace(query, offset=offset))
            fresh = [found for found in page if found.changed_at is not None and found.changed_at >= since]
            for subscription in fresh:
                self._note(subscription)
            if len(fresh) < PAGE:
                break
            offset += PAGE
        self._seen = seen

    def _note(self, found: Subscription) -> None:
        """Take it as it is now; what a slow look brings may be older than what this process has saved since."""
        if found.version < self._versions.get(found.id, 0):
            return
        self._versions[found.id] = found.version
        self._forget(found.id)
        if found.state is SubscriptionState.ACTIVE:
            self._known[found.id] = Listener(found.id, found.owner, found.terms, found.claims, found.since)
            self._by_owner.setdefault(found.owner, set()).add(found.id)
            self._note_reach(self._known[found.id])
        elif found.state is SubscriptionState.DELETED:
            del self._versions[found.id]

    def _note_reach(self, listener: Listener) -> None:
        for group in listener.groups:
            self._by_group.setdefault((listener.owner.issuer, group), set()).add(listener.id)
        if self._has_role(listener):
            self._with_role.add(listener.id)

    def _has_role(self, listener: Listener) -> bool:
        is_wide = listener.terms.scope == "readable" and listener.claims is not None
        return is_wide and listener.claims is not None and self._readers.has_role(listener.owner, listener.claims)

    def _forget(self, id: str) -> None:
        listener = self._known.pop(id, None)
        if listener is None:
            return
        self._with_role.discard(id)
        _drop(self._by_owner, listener.owner, id)
        for group in listener.groups:
            _drop(self._by_group, (listener.owner.issuer, group), id)


def _drop(index: dict[K, set[str]], key: K, id: str) -> None:
    """Take *id* away from what is under *key*, and the key with the last."""
    index[key].discard(id)
    if not index[key]:
        del index[key]
