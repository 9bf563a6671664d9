"""What services read: the texts that the lock names, each checked against its hash; no network, whatever a template says."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from indaco_common.errors import Unavailable

from .folder import LOCK, Folder
from .lock import Lock

KEPT_TEXTS = 64  # of at most 1 MB, usually 30 kB


class Closure:
    """The resolver for one template: it sees one state of the lock and remembers what it gave.

    ``digests`` (URL → SHA-256) goes with the request, so that whoever plans it again, later and elsewhere, has the same types.
    """

    def __init__(self, lock: Lock, text: Callable[[str, str], bytes]) -> None:
        self._lock, self._text = lock, text
        self.digests: dict[str, str] = {}

    def __call__(self, url: str) -> bytes | None:
        """Return the pinned text of *url*, None if there is none. Raises: Unavailable, if it is not the one that was pinned."""
        pin = self._lock.imports.get(url)
        if pin is None:
            return None
        text = self._text(url, pin.sha256)
        self.digests[url] = pin.sha256
        return text


class PinnedImports:
    """A folder of pinned imports, or none at all; a refresh is seen by the next template, without a restart."""

    def __init__(self, path: Path | None) -> None:
        self._folder = Folder(path) if path else None
        self._seen: tuple[tuple[int, int], Lock] | None = None  # inode and time of the lock that was read
        self._checked = lru_cache(KEPT_TEXTS)(self._read)

    def closure(self) -> Closure | None:
        """Return a resolver for one template; None where no folder is named: parsed templates are then shared as a whole.

        Raises: Unavailable, if there is a folder and no lock in it; Invalid.
        """
        return Closure(self._lock(self._folder), self.text) if self._folder else None

    def text(self, url: str, digest: str) -> bytes:
        """Return the text with this digest, whether or not the lock still names it. Raises: Unavailable.

        The same text is the same object, by which its types are known again without a look at its bytes.
        """
        return self._checked(url, digest)

    def _read(self, url: str, digest: str) -> bytes:
        if self._folder is None:
            raise Unavailable(f"The text of {url} is needed, and INDACO_IMPORTS names no folder")
        return self._folder.text(url, digest)

    def _lock(self, folder: Folder) -> Lock:
        try:
            found = (folder.path / LOCK).stat()
        except OSError as error:
            raise Unavailable(f"INDACO_IMPORTS: {LOCK} cannot be read: {error.strerror}") from None
        state = (found.st_ino, found.st_mtime_ns)
        if self._seen is None or self._seen[0] != state:
            self._seen = state, folder.lock()
        return self._seen[1]
