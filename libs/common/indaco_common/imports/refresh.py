"""From a source of texts to new pins: everything is fetched and checked before anything is written."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from indaco_common.errors import Invalid, Unavailable
from indaco_tosca.library import BUNDLED_NAMES

from .content import check_closure, definitions, imports_of, types_of
from .folder import Folder
from .lock import MAX_PINS, Lock, Origin, Pin


class Source(Protocol):
    """Where texts come from: the network or a mirror."""

    @property
    def origin(self) -> Origin: ...
    def covers(self, url: str) -> bool:
        """Return whether it may be asked for *url*."""

    async def text(self, url: str) -> bytes:
        """Raises: PolicyRefused, Unavailable, Invalid."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is different about one URL; the names are those of types of all kinds."""

    url: str
    before: Pin | None
    after: Pin
    added: frozenset[str]
    removed: frozenset[str]
    redefined: frozenset[str]


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A new lock with the texts that it needs; for the imports in ``stand_ins`` the bundled types stand."""

    lock: Lock
    texts: Mapping[str, bytes]
    changes: tuple[Change, ...]
    stand_ins: tuple[str, ...] = ()


async def refresh(folder: Folder, lock: Lock, urls: Sequence[str], source: Source, now: datetime) -> Refreshed:
    """Take the texts of *urls* and of all that they import, directly or not; what an operator added by hand stays as it is.

    Nothing is written. Raises: Invalid, for a text that is no TOSCA document or a closure over the limits of a template; what *source* raises.
    """
    texts: dict[str, bytes] = {}
    kept: dict[str, bytes] = {}
    stand_ins: list[str] = []
    waiting, known = deque(urls), set(urls)
    while waiting:
        url = waiting.popleft()
        if url not in urls and url in lock.imports and lock.imports[url].origin == "file":
            text = kept[url] = folder.text(url, lock.imports[url].sha256)
        elif url not in urls and url.rpartition("/")[2] in BUNDLED_NAMES and not source.covers(url):
            stand_ins.append(url)
            continue
        else:
            text = texts[url] = await source.text(url)
        new = [name for name in imports_of(url, definitions(url, text)) if name not in known]
        waiting.extend(dict.fromkeys(new))
        known.update(new)
        if len(known) > MAX_PINS:
            raise Invalid(f"More than {MAX_PINS} texts would be pinned")
    for url in urls:
        check_closure(url, (kept | texts).get)
    after, changes = pin(folder, lock, texts, origin=source.origin, now=now)
    return Refreshed(after, texts, changes, tuple(stand_ins))


def pin(
    folder: Folder, lock: Lock, texts: Mapping[str, bytes], *, origin: Origin, now: datetime
) -> tuple[Lock, tuple[Change, ...]]:
    """Return *lock* with pins of *texts*, and what changes; a pin of the same text stays as it was. Raises: Invalid."""
    fresh = {url: Pin.of(text, origin=origin, now=now) for url, text in texts.items()}
    pins = lock.imports | {url: pin for url, pin in fresh.items() if not pin.is_same(lock.imports.get(url))}
    if len(pins) > MAX_PINS:
        raise Invalid(f"{len(pins)} texts would be pinned; at most {MAX_PINS} may be")
    after = Lock(imports=pins)
    changed = [url for url in sorted(texts) if after.imports[url] != lock.imports.get(url)]
    return after, tuple(_change(folder, lock.imports.get(url), after.imports[url], url, texts[url]) for url in changed)


def _change(folder: Folder, before: Pin | None, after: Pin, url: str, text: bytes) -> Change:
    old, new = _old_types(folder, url, before), types_of(url, text)
    redefined = frozenset(name for name in old.keys() & new.keys() if old[name] != new[name])
    return Change(url, before, after, frozenset(new.keys() - old.keys()), frozenset(old.keys() - new.keys()), redefined)


def _old_types(folder: Folder, url: str, before: Pin | None) -> Mapping[str, object]:
    """Return none where the old text is lost: a refresh mends that, and must not fail by it."""
    try:
        return types_of(url, folder.text(url, before.sha256)) if before else {}
    except (Unavailable, Invalid):
        return {}
