"""Wake-ups inside a process: what was saved may be relayed at once, and a timer may be due sooner. Polling is the safety net."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from .store.aggregate import Aggregate

A = TypeVar("A", bound=Aggregate)


class Hints:
    """Tells listeners of saves; a hint that is lost costs a second, never correctness."""

    def __init__(self) -> None:
        self.outbox = asyncio.Event()
        self.seen_until: Callable[[], datetime | None] = lambda: None  # set by the runtime
        self._due: dict[str, list[Callable[[datetime], None]]] = {}
        self._changed: dict[str, list[Callable[[str], None]]] = {}
        self._saved: dict[str, list[Callable[[Any], None]]] = {}

    def heard(self) -> datetime | None:
        """Return the time before which every message has been handled here, if that is known."""
        return self.seen_until()

    def saved(self, aggregate: Aggregate, has_outbox: bool) -> None:  # noqa: FBT001
        if has_outbox:
            self.outbox.set()
        if aggregate.due_at is not None:
            for wake in self._due.get(aggregate.KIND, ()):
                wake(aggregate.due_at)
        for tell in self._changed.get(aggregate.KIND, ()):
            tell(aggregate.id)
        for show in self._saved.get(aggregate.KIND, ()):
            show(aggregate)

    def on_due(self, kind: type[Aggregate], wake: Callable[[datetime], None]) -> None:
        """Call *wake* with the due time of each saved aggregate of *kind*."""
        self._due.setdefault(kind.KIND, []).append(wake)

    def on_change(self, kind: type[Aggregate], tell: Callable[[str], None]) -> None:
        """Call *tell* with the id of each saved aggregate of *kind*."""
        self._changed.setdefault(kind.KIND, []).append(tell)

    def on_saved(self, kind: type[A], show: Callable[[A], None]) -> None:
        """Call *show* with each saved aggregate of *kind*, which it must not change."""
        self._saved.setdefault(kind.KIND, []).append(show)
