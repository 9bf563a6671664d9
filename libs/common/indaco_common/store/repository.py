"""Aggregates in and out of a store: optimistic concurrency and embedded outbox behind one verb."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Generic, TypeVar, cast

import pydantic
import pydantic_core

from indaco_common.clock import Clock
from indaco_common.envelope import Context, seal
from indaco_common.errors import AlreadyHandled, Invalid, NotFound
from indaco_common.recent import Recent

from .aggregate import Aggregate
from .locks import Locks
from .port import Found, Page, Query, Scalar, Store

A = TypeVar("A", bound=Aggregate)
P = TypeVar("P", bound=pydantic.BaseModel)
V = TypeVar("V")
CACHE_LENGTH = 256
MAX_KEPT_BYTES = 16 * 1024  # of a state; what is made of larger ones is not kept
MAX_VERSIONS = 1000  # ids that a store is asked about at once


class Repository(Generic[A]):
    """All aggregates of one kind of one service."""

    def __init__(
        self, store: Store, kind: type[A], *, source: str, clock: Clock, saved: Callable[[Aggregate, bool], None]
    ) -> None:
        """*saved* is told of each save, and whether it left something in the outbox: the hint that wakes relay and timers."""
        self._store, self._kind, self._source, self._clock, self._saved = store, kind, source, clock, saved
        self._index = [(name, tuple(name.split("."))) for name in kind.INDEX]
        self._cache: dict[str, A] = {}
        self._locks = Locks()

    async def get(self, id: str) -> A:
        """Return the aggregate as stored. Raises: NotFound."""
        if (found := await self._store.load(self._kind.KIND, id)) is None:
            raise NotFound(f"{self._kind.KIND} {id} does not exist")
        return self._read(found)

    async def get_part(self, id: str, part: type[P]) -> P:
        """As :meth:`get`, but read no more than the fields of *part*, of which the aggregate's own class is one. Raises: NotFound."""
        if (found := await self._store.load(self._kind.KIND, id)) is None:
            raise NotFound(f"{self._kind.KIND} {id} does not exist")
        return _part(found, part)

    async def get_made(
        self, id: str, part: type[P], make: Callable[[P], V], kept: Recent[Found, V], variant: str = ""
    ) -> V:
        """Return what *make* makes of :meth:`get_part`: anew, or what is *kept* of it since the state read was the same. Raises: NotFound.

        *variant* says of what else it depends.
        """
        if (found := await self._store.load(self._kind.KIND, id)) is None:
            raise NotFound(f"{self._kind.KIND} {id} does not exist")
        if len(found.state) > MAX_KEPT_BYTES:
            return make(_part(found, part))
        return kept.get((id, variant), found, lambda: make(_part(found, part)))

    async def find(self, query: Query) -> tuple[list[A], int]:
        """Return a page of aggregates and the total. Raises: Invalid, for a field that is not in their ``INDEX``."""
        page = await self._page(query)
        return [self._read(found) for found in page.states], page.total

    async def find_parts(self, query: Query, part: type[P]) -> tuple[list[P], int]:
        """As :meth:`find`, but read of each no more than the fields of the model *part*: a list of large ones takes a tenth of the time."""
        page = await self._page(query)
        return [_part(found, part) for found in page.states], page.total

    async def _page(self, query: Query) -> Page:
        if unknown := query.fields() - {*self._kind.INDEX}:
            raise Invalid(f"{self._kind.KIND} cannot be listed by {min(unknown)}")
        try:
            return await self._store.find(self._kind.KIND, query)
        except Invalid:  # the store learns of fields when it first saves them: there is nothing yet
            return Page([], 0)

    async def versions(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the versions of those of *ids* that exist: much cheaper than reading them."""
        found: dict[str, int] = {}
        for begin in range(0, len(ids), MAX_VERSIONS):
            found |= await self._store.versions(self._kind.KIND, ids[begin : begin + MAX_VERSIONS])
        return found

    def edit(self, id: str, ctx: Context) -> AbstractAsyncContextManager[A]:
        """Load, let the caller change it, save once: state + emitted messages + ``ctx.id``, or nothing.

        Raises: NotFound; AlreadyHandled, if ``ctx.id`` is in the inbox or (timers) the version moved on; Conflict.
        """
        return _Edit(self, id, ctx, absent=None)

    def upsert(self, id: str, ctx: Context) -> AbstractAsyncContextManager[A]:
        """As :meth:`edit`, but what is absent begins as ``Aggregate.new(id)``: for a first message of several kinds."""
        return _Edit(self, id, ctx, absent=self._kind.new)

    async def create(self, aggregate: A, ctx: Context) -> None:
        """Save a new aggregate. Raises: Conflict, if it exists."""
        await self._save(aggregate, ctx)

    async def remove(self, id: str, ctx: Context) -> None:
        """Forget an aggregate. Raises: NotFound; AlreadyHandled, if (timers) the version moved on; Conflict, also while it has messages to send."""
        await self._locks.acquire(id)
        try:
            aggregate = await self._open(id, ctx, None)
            await self._store.remove(self._kind.KIND, id, version=aggregate.version)
        finally:
            self._locks.release(id)

    async def _open(self, id: str, ctx: Context, absent: Callable[[str], Aggregate] | None) -> A:
        found = await self._store.load(self._kind.KIND, id, ctx.id)
        if found is not None:
            return self._checked(id, found, ctx)
        if absent is None:
            raise NotFound(f"{self._kind.KIND} {id} does not exist")
        return cast("A", absent(id))

    def _keep(self, aggregate: A) -> None:
        if self._kind.CACHED:
            if len(self._cache) >= CACHE_LENGTH:
                self._cache.pop(next(iter(self._cache)))
            self._cache[aggregate.id] = aggregate

    def _read(self, found: Found) -> A:
        aggregate = self._kind.model_validate_json(found.state)
        aggregate.is_at(found.version)
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
            index={name: _scalar(aggregate, path) for name, path in self._index}, due_at=aggregate.due_at, outbox=outbox,
            message_id=ctx.id, now=now,
        )  # fmt: skip
        aggregate.is_at(version + 1)
        aggregate.emitted.clear()
        self._saved(aggregate, bool(outbox))


class _Edit(AbstractAsyncContextManager[A]):
    """One editor per id in this process: coroutines queue here, replicas meet at the version."""

    __slots__ = ("_absent", "_aggregate", "_ctx", "_id", "_repository")

    def __init__(
        self, repository: Repository[A], id: str, ctx: Context, *, absent: Callable[[str], Aggregate] | None
    ) -> None:
        self._repository, self._id, self._ctx, self._absent = repository, id, ctx, absent

    async def __aenter__(self) -> A:
        repository = self._repository
        await repository._locks.acquire(self._id)  # noqa: SLF001 - its other half
        try:
            self._aggregate = await repository._open(self._id, self._ctx, self._absent)  # noqa: SLF001
        except BaseException:
            repository._locks.release(self._id)  # noqa: SLF001
            raise
        return self._aggregate

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        repository = self._repository
        try:
            if kind is None:
                await repository._save(self._aggregate, self._ctx)  # noqa: SLF001
                repository._keep(self._aggregate)  # noqa: SLF001
        finally:
            repository._locks.release(self._id)  # noqa: SLF001


def _scalar(aggregate: Aggregate, path: Sequence[str]) -> Scalar:
    value: object = aggregate
    for name in path:
        value = getattr(value, name, None)
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool) else None


def _part(found: Found, part: type[P]) -> P:
    read = part.model_validate_json(found.state)
    if isinstance(read, Aggregate):
        read.is_at(found.version)
    return read
