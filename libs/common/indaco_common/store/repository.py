"""Aggregates in and out of a store: optimistic concurrency and embedded outbox behind one verb."""

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Generic, TypeVar, cast

import pydantic_core

from indaco_common.clock import Clock
from indaco_common.envelope import Context, seal
from indaco_common.errors import AlreadyHandled, Invalid, NotFound

from .aggregate import Aggregate
from .port import Found, Query, Scalar, Store

A = TypeVar("A", bound=Aggregate)
CACHE_LENGTH = 256


class Repository(Generic[A]):
    """All aggregates of one kind of one service."""

    def __init__(
        self, store: Store, kind: type[A], *, source: str, clock: Clock, saved: Callable[[Aggregate, bool], None]
    ) -> None:
        """*saved* is told of each save, and whether it left something in the outbox: the hint that wakes relay and timers."""
        self._store, self._kind, self._source, self._clock, self._saved = store, kind, source, clock, saved
        self._cache: dict[str, A] = {}
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def get(self, id: str) -> A:
        """Return the aggregate as stored. Raises: NotFound."""
        if (found := await self._store.load(self._kind.KIND, id)) is None:
            raise NotFound(f"{self._kind.KIND} {id} does not exist")
        return self._read(found)

    async def find(self, query: Query) -> tuple[list[A], int]:
        """Return a page of aggregates and the total. Raises: Invalid, for a field that is not in their ``INDEX``."""
        asked = {*query.equal, *query.any_of, *query.none_of, query.order_by} - {"id"}
        if unknown := asked - {*self._kind.INDEX}:
            raise Invalid(f"{self._kind.KIND} cannot be listed by {min(unknown)}")
        try:
            page = await self._store.find(self._kind.KIND, query)
        except Invalid:  # the store learns of fields when it first saves them: there is nothing yet
            return [], 0
        return [self._read(found) for found in page.states], page.total

    @asynccontextmanager
    async def edit(self, id: str, ctx: Context) -> AsyncIterator[A]:
        """Load, let the caller change it, save once: state + emitted messages + ``ctx.id``, or nothing.

        Raises: NotFound; AlreadyHandled, if ``ctx.id`` is in the inbox or (timers) the version moved on; Conflict.
        """
        async with self._lock(id):
            found = await self._store.load(self._kind.KIND, id, ctx.id)
            if found is None:
                raise NotFound(f"{self._kind.KIND} {id} does not exist")
            aggregate = self._checked(id, found, ctx)
            yield aggregate
            await self._save(aggregate, ctx)
            self._keep(aggregate)

    @asynccontextmanager
    async def upsert(self, id: str, ctx: Context) -> AsyncIterator[A]:
        """As :meth:`edit`, but what is absent begins as ``Aggregate.new(id)``: for a first message of several kinds."""
        async with self._lock(id):
            found = await self._store.load(self._kind.KIND, id, ctx.id)
            aggregate = cast("A", self._kind.new(id)) if found is None else self._checked(id, found, ctx)
            yield aggregate
            await self._save(aggregate, ctx)

    async def create(self, aggregate: A, ctx: Context) -> None:
        """Save a new aggregate. Raises: Conflict, if it exists."""
        await self._save(aggregate, ctx)

    def _lock(self, id: str) -> asyncio.Lock:
        """One editor per id in this process: coroutines queue here, replicas meet at the version."""
        lock = self._locks.get(id)
        if lock is None:
            lock = self._locks[id] = asyncio.Lock()
        return lock

    def _keep(self, aggregate: A) -> None:
        if self._kind.CACHED:
            if len(self._cache) >= CACHE_LENGTH:
                self._cache.pop(next(iter(self._cache)))
            self._cache[aggregate.id] = aggregate

    def _read(self, found: Found) -> A:
        aggregate = self._kind.model_validate_json(found.state)
        aggregate._version = found.version  # noqa: SLF001
        return aggregate

    def _checked(self, id: str, found: Found, ctx: Context) -> A:
        if found.handled:
            raise AlreadyHandled(f"{ctx.id} has been handled by {self._kind.KIND}")
        if ctx.at_version is not None and ctx.at_version != found.version:
            raise AlreadyHandled(f"the timer was set at version {ctx.at_version}, it is {found.version} now")
        kept = self._cache.pop(id, None)  # whoever edits it owns it; it is kept again once saved
        return kept if kept is not None and kept.version == found.version else self._read(found)

    async def _save(self, aggregate: A, ctx: Context) -> None:
        now, version = self._clock.now(), aggregate.version
        outbox = [
            seal(message, ctx, source=self._source, version=version + 1, index=i, now=now)
            for i, message in enumerate(aggregate.emitted)
        ]
        await self._store.save(
            self._kind.KIND, aggregate.id, version=version, state=pydantic_core.to_json(aggregate),
            index={name: _scalar(aggregate, name) for name in self._kind.INDEX}, due_at=aggregate.due_at, outbox=outbox,
            message_id=ctx.id, now=now,
        )  # fmt: skip
        aggregate._version = version + 1  # noqa: SLF001
        aggregate.emitted.clear()
        self._saved(aggregate, bool(outbox))


def _scalar(aggregate: Aggregate, path: str) -> Scalar:
    value: object = aggregate
    for name in path.split("."):
        value = getattr(value, name, None)
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool) else None
