"""The folder of pinned imports: read with every byte checked, written so that a crash leaves the old state or the new one."""

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from indaco_common.errors import Conflict, Unavailable

from .lock import MAX_LOCK_BYTES, MAX_TEXT_BYTES, Lock

LOCK = "imports.lock"
UNFINISHED = ".new-"


class Folder:
    """Texts by digest, and the lock that names them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lock(self) -> Lock:
        """Raises: Invalid; Unavailable, where there is none."""
        try:
            return Lock.read(_start(self.path / LOCK, MAX_LOCK_BYTES + 1))
        except OSError as error:
            raise Unavailable(f"{LOCK} cannot be read: {error.strerror}") from None

    def text(self, url: str, digest: str) -> bytes:
        """Return the text with this digest. Raises: Unavailable, if it is not there or is another one."""
        try:
            body = _start(self.path / f"{digest}.yaml", MAX_TEXT_BYTES + 1)
        except OSError as error:
            raise Unavailable(f"The pinned text of {url} ({digest}.yaml) cannot be read: {error.strerror}") from None
        if (found := sha256(body).hexdigest()) != digest:
            raise Unavailable(f"The text of {url} was changed: its sha256 is {found}, {LOCK} has {digest}")
        return body

    @contextmanager
    def written(self) -> Iterator[Lock]:
        """Keep other writers out, for of two that start from the same lock the later would undo the earlier; give that lock.

        Raises: Conflict, if another one is at it; Invalid; Unavailable.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with (self.path / ".writing").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for left in self.path.glob(f"{UNFINISHED}*"):  # by a process that died
                    left.unlink()
                yield self.lock() if (self.path / LOCK).exists() else Lock()
        except BlockingIOError:
            raise Conflict(f"{self.path} is being written by another command; try again when it has ended") from None
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be written: {error.strerror}") from None

    def put(self, lock: Lock, texts: Iterable[bytes]) -> None:
        """Add *texts* and then let *lock* name them; readers see the old lock until the end. Old texts stay. Raises: OSError."""
        for text in texts:
            self._replace(f"{sha256(text).hexdigest()}.yaml", text)
        self._replace(LOCK, lock.render())

    def _replace(self, name: str, body: bytes) -> None:
        descriptor, unfinished = tempfile.mkstemp(prefix=UNFINISHED, dir=self.path)
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fchmod(descriptor, 0o644)  # services read it as other users
            os.fsync(descriptor)
        Path(unfinished).replace(self.path / name)
        self._sync()

    def _sync(self) -> None:
        """Make the renaming itself survive a power cut."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _start(file: Path, size: int) -> bytes:
    """Return at most *size* bytes. Raises: OSError."""
    with file.open("rb") as opened:
        return opened.read(size)
