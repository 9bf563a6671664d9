"""A store in memory with the contract of the real ones, in which every save may crash before or after it commits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from indaco_common.envelope import Sealed
from indaco_common.errors import Conflict
from indaco_common.store import Aggregate
from indaco_common.store.port import Found, Scalar

A = TypeVar("A", bound=Aggregate)
INBOX = 3  # message ids an aggregate remembers: few on purpose, so that late duplicates get past it


class Crash(BaseException):
    """The process dies here; no handler can catch it."""


@dataclass(slots=True)
class Row:
    version: int
    state: bytes
    due_at: datetime | None
    inbox: list[str] = field(default_factory=list)


class MemoryStore:
    """Load and save as a store does. ``changed`` collects what was saved since the invariants were last looked at."""

    def __init__(self, *, crashes: Callable[[], bool], publish: Callable[[Sealed], None]) -> None:
        """*crashes* decides at each side of a commit; *publish* is the relay, which here never waits."""
        self._crashes, self._publish = crashes, publish
        self.rows: dict[tuple[str, str], Row] = {}
        self.changed: set[tuple[str, str]] = set()
        self._read: dict[tuple[str, str], tuple[int, Aggregate]] = {}

    async def load(self, kind: str, id: str, message_id: str | None = None) -> Found | None:
        row = self.rows.get((kind, id))
        return None if row is None else Found(row.version, row.state, handled=message_id in row.inbox)

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
        if self._crashes():
            raise Crash
        row = self.rows.get((kind, id))
        if (row.version if row else 0) != version:
            raise Conflict(f"{kind} {id} is at version {row.version if row else 0}")
        inbox = [*(row.inbox if row else []), *([message_id] if message_id else [])][-INBOX:]
        self.rows[kind, id] = Row(version + 1, state, due_at, inbox)
        self.changed.add((kind, id))
        for sealed in outbox:
            self._publish(sealed)
        if self._crashes():
            raise Crash

    async def put_blob(self, digest: str, body: bytes) -> None:
        """Templates are not read in this world."""

    def due(self, now: datetime) -> list[tuple[str, str, int]]:
        """Return (kind, id, version) of what is due."""
        return [(*key, row.version) for key, row in self.rows.items() if row.due_at is not None and row.due_at <= now]

    def next_due(self) -> datetime | None:
        return min((row.due_at for row in self.rows.values() if row.due_at is not None), default=None)

    def read(self, kind: type[A], id: str) -> A | None:
        """Return an aggregate as it was last saved, not to be changed."""
        row = self.rows.get((kind.KIND, id))
        if row is None:
            return None
        version, aggregate = self._read.get((kind.KIND, id), (0, None))
        if version != row.version or not isinstance(aggregate, kind):
            aggregate = kind.model_validate_json(row.state)
            self._read[kind.KIND, id] = row.version, aggregate
        return aggregate

    def all(self, kind: type[A]) -> dict[str, A]:
        """Return every aggregate of *kind* by id, in the order in which they were first saved."""
        found = {id: self.read(kind, id) for name, id in self.rows if name == kind.KIND}
        return {id: aggregate for id, aggregate in found.items() if aggregate is not None}
