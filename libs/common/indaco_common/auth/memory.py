"""A bounded memory of what was found out about tokens; it holds digests of them, never tokens."""

import hashlib
from collections import OrderedDict
from datetime import datetime
from typing import Generic, TypeVar

T = TypeVar("T")


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()


class Memory(Generic[T]):
    """What is known by digest, each until a time of its own; the least used go first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._known: OrderedDict[bytes, tuple[T, datetime]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, digest: bytes, now: datetime) -> T | None:
        found = self._known.get(digest)
        if found is None:
            return None
        if found[1] <= now:
            del self._known[digest]
            return None
        self._known.move_to_end(digest)
        return found[0]

    def put(self, digest: bytes, value: T, *, until: datetime, now: datetime) -> None:
        if until <= now:
            return
        self._known[digest] = (value, until)
        if len(self._known) > self.limit:
            self._known.popitem(last=False)

    def drop(self, digest: bytes) -> None:
        self._known.pop(digest, None)

    def clear(self) -> None:
        self._known.clear()
