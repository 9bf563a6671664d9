"""What was made of something a moment ago, while that has not changed: most reads are somebody's who asks again and again."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

S = TypeVar("S")
V = TypeVar("V")


class Recent(Generic[S, V]):
    """Values by key, each with the source that it was made of; those that were used longest ago go first.

    A value is handed to everybody who asks: it must not be changed.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, tuple[S, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, source: S, make: Callable[[], V]) -> V:
        """Return what was made of an equal *source* for *key*, or else what *make* makes of it now."""
        kept = self._kept.get(key)
        if kept is None or (kept[0] is not source and kept[0] != source):
            kept = self._kept[key] = source, make()
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return kept[1]
