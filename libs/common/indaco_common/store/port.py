"""The store as services see it, one adapter per database; bytes and versions, no domain."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from indaco_common.envelope import Sealed

INBOX_LENGTH = 256  # message ids an aggregate remembers: more than can be under way for it at once
Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Found:
    """One aggregate as stored. ``handled`` says whether the message asked about is in its inbox."""

    version: int
    state: bytes
    handled: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One message in an aggregate's outbox, leased to this relay; entries of one aggregate are published in turn."""

    kind: str
    id: str
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class Query:
    """Select aggregates of one kind by indexed fields: equal, in, and not in; newest first unless told otherwise.

    *contains*: of each pair, the text of the field has at least one of the texts in it (case counts). *after*: the values of
    ``order_by`` and ``id`` of the aggregate to continue behind: unlike an offset it costs the same for any page.

    A store makes an index for each combination of ``equal``, ``order_by`` and the fields of ``any_of`` and ``none_of`` that it is
    asked for; *covered* names those of the latter (and of ``contains``) that are asked for so often that an index pays, None means
    all of the former.
    """

    equal: Mapping[str, Scalar] = field(default_factory=dict)
    any_of: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)
    none_of: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)
    contains: Sequence[tuple[str, Sequence[str]]] = ()
    covered: Collection[str] | None = None
    order_by: str = "id"
    descending: bool = True
    after: tuple[Scalar, str] | None = None
    offset: int = 0
    limit: int = 100
    is_counted: bool = True

    def fields(self) -> set[str]:
        """Return every field that is asked about."""
        asked = {*self.equal, *self.any_of, *self.none_of, self.order_by, *(name for name, _ in self.contains)}
        return asked - {"id"}

    def shape(self) -> tuple[list[str], list[str]]:
        """Return the fields of the index that serves it best: those by which it is sought and sorted, and those it filters by."""
        sought = list(dict.fromkeys([*sorted(self.equal), self.order_by, "id"]))
        filters = {*self.any_of, *self.none_of}
        if self.covered is not None:
            filters = {*self.covered} & (filters | {name for name, _ in self.contains})
        return sought, sorted(filters - {*sought})


@dataclass(frozen=True, slots=True)
class Page:
    """States in order, and how many there are in all, before and behind the page too; 0 if that was not to be counted."""

    states: list[Found]
    total: int


@dataclass(frozen=True, slots=True)
class JournalQuery:
    """Select published envelopes, oldest first."""

    name: str | None = None
    correlation_id: str | None = None
    since: datetime | None = None
    after: str = ""  # the envelope id to continue behind (ids sort by time)
    limit: int = 1000


class Store(Protocol):
    """State, outbox and inbox of one service. Raises Unavailable when the database does not answer or cannot write."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def on_saving(self, wake: Callable[[], None]) -> None:
        """Call *wake* when a save with messages begins, if a lease asked for then is answered together with the save.

        A store for which it would come too early never calls. It is a hint: whoever misses it finds the messages after the save.
        """

    async def ping(self) -> None:
        """Prove that it can read and write. Raises: Unavailable."""

    async def load(self, kind: str, id: str, message_id: str | None = None) -> Found | None:
        """Return the aggregate, and whether its inbox holds *message_id*."""

    async def save(
        self,
        kind: str,
        id: str,
        *,
        version: int,
        state: bytes,
        index: Mapping[str, Scalar],
        due_at: datetime | None,
        outbox: Sequence[Sealed],
        message_id: str | None,
        now: datetime,
    ) -> None:
        """Replace *version* (0: create) by *version* + 1, append to outbox and inbox: all of it or nothing.

        Raises: Conflict, if the stored version is another one.
        """

    async def versions(self, kind: str, ids: Sequence[str]) -> dict[str, int]:
        """Return the versions of those of *ids* (at most 1000) that exist, without reading their states."""

    async def remove(self, kind: str, id: str, *, version: int) -> None:
        """Forget an aggregate and its inbox, but for what it has published: the journal keeps that.

        Raises: Conflict, if the stored version is another one, if there is none, or if a message waits in the outbox.
        """

    async def due(self, kind: str, now: datetime, limit: int) -> list[tuple[str, int]]:
        """Return (id, version) of what is due, most overdue first."""

    async def next_due(self, kind: str) -> datetime | None:
        """Return the earliest ``due_at`` of *kind*."""

    async def lease(self, now: datetime, lease_s: float, limit: int) -> list[list[Entry]]:
        """Lease outboxes with unpublished messages to the caller: a list of entries per aggregate, for *lease_s*."""

    async def settle(self, published: Sequence[Entry], now: datetime) -> None:
        """Move published entries from outboxes to the journal; again is not an error."""

    async def give_back(self, entries: Sequence[Entry]) -> None:
        """End the lease on the outboxes of *entries* now, so that another relay need not wait for its end."""

    async def outbox_age_s(self, now: datetime) -> float:
        """Return the age of the oldest unpublished message in seconds, 0 if there is none."""

    async def find(self, kind: str, query: Query) -> Page: ...
    async def journal(self, query: JournalQuery) -> list[bytes]:
        """Return published envelopes, oldest first."""

    async def prune(self, before: datetime) -> int:
        """Forget journal entries older than *before*; return how many."""

    async def put_blob(self, digest: str, body: bytes) -> None:
        """Keep immutable bytes under their digest; again is not an error."""

    async def get_blob(self, digest: str) -> bytes | None: ...
