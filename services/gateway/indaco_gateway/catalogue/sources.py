"""Where the catalogue's files come from: a folder, or a git repository."""

import asyncio
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, urlsplit, urlunsplit

from indaco_common.errors import Invalid, Unavailable
from indaco_tosca.catalogue import MAX_FILE_BYTES, check_sizes, is_part

from .git import GitRepository

TRIES = 4  # of reading a folder that changes meanwhile
PAUSE_S = 0.1
DEPTH = 3  # folders of cards, of versions, files
GIT, NONE = "git+", "none"
SHIPPED = (Path(__file__).parents[1] / "cards", Path(__file__).resolve().parents[4] / "catalogue")  # installed, or not
SCHEMES = ("https", "http", "ssh", "file")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}|")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Files as they were together at one time; *revision* is a git commit, or a digest of names, sizes and times."""

    revision: str
    files: Mapping[str, bytes]


class Source(Protocol):
    """A place that has a catalogue."""

    @property
    def address(self) -> str:
        """Where it is, for operators."""

    async def read(self, known: str) -> Snapshot | None:
        """Return the files, or None if the revision is still the *known* one. Raises: TemplateError, Unavailable."""


class Folder:
    """A folder on disk; a link to a folder may be exchanged for another, links within it are not followed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def address(self) -> str:
        return str(self._path)

    async def read(self, known: str) -> Snapshot | None:
        """Read it until nothing has changed between the first file and the last."""
        for _ in range(TRIES):
            try:
                before, files, after = await asyncio.to_thread(self._once, known)
            except FileNotFoundError as error:
                if not self._path.is_dir():
                    raise Unavailable(f"The catalogue's folder {self._path} is not there") from error
            except OSError as error:
                raise Unavailable(f"The catalogue cannot be read from {self._path}: {error.strerror}") from error
            else:
                if before == known:
                    return None
                if before == after:
                    return Snapshot(before, files)
            await asyncio.sleep(PAUSE_S)
        raise Unavailable(f"The catalogue's folder {self._path} changes while it is read")

    def _once(self, known: str) -> tuple[str, dict[str, bytes], str]:
        root = self._path.resolve(strict=True)
        before = dict(_entries(root, "", DEPTH))
        check_sizes({path: stat.st_size for path, stat in before.items()})
        if _revision(before) == known:
            return known, {}, known
        files = {path: _content(root / path) for path in before}
        return _revision(before), files, _revision(dict(_entries(self._path.resolve(strict=True), "", DEPTH)))


class GitFolder:
    """A folder of a git repository, at a branch, a tag or a commit."""

    def __init__(self, repository: GitRepository, folder: str) -> None:
        self._repository, self._folder = repository, folder
        self._was_read = False

    @property
    def address(self) -> str:
        return f"{self._repository.url} at {self._repository.ref}" + (f", {self._folder}" if self._folder else "")

    async def read(self, known: str) -> Snapshot | None:
        """Read it; what an earlier process has fetched does for the first time, should the server be away."""
        try:
            commit = await self._repository.fetch()
        except Unavailable:
            commit = await self._repository.kept()
            if self._was_read or not commit:
                raise
        if commit == known:
            return None
        blobs = {
            path: blob for path, blob in (await self._repository.tree(commit, self._folder)).items() if is_part(path)
        }
        check_sizes({path: blob.size for path, blob in blobs.items()})
        snapshot = Snapshot(commit, await self._repository.contents(blobs))
        self._was_read = True
        return snapshot


def source_of(setting: str, data: Path) -> Source | None:
    """Return the source that a setting names: a folder, or ``git+https://host/path?ref=main&folder=catalogue``.

    Nothing means the catalogue that comes with Indaco, and ``none`` means none. Clones are kept in *data*.
    Raises: Invalid, for what is no such address, or has a password in it.
    """
    if setting in {"", NONE}:
        shipped = next((folder for folder in SHIPPED if folder.is_dir()), None)
        return Folder(shipped) if shipped and not setting else None
    return _git(setting.removeprefix(GIT), data) if setting.startswith(GIT) else Folder(Path(setting))


def _git(address: str, data: Path) -> GitFolder:
    parts = urlsplit(address)
    options = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    ref, folder = options.pop("ref", "HEAD"), options.pop("folder", "").strip("/")
    if parts.password is not None or (parts.username and parts.scheme != "ssh"):
        raise Invalid("The catalogue's address has a credential in it; give git one by its credential helper or a key")
    is_known = parts.scheme in SCHEMES and parts.path and not options and not parts.fragment
    if not (is_known and _REF.fullmatch(ref) and _FOLDER.fullmatch(folder) and ".." not in ref + folder):
        raise Invalid(
            "The catalogue's address is not understood: a folder, or git+https://host/path?ref=main&folder=catalogue"
        )
    url = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    name = hashlib.sha256(f"{url} {ref}".encode()).hexdigest()[:16]
    return GitFolder(GitRepository(url, ref, data / "catalogue" / f"{name}.git"), folder)


def _entries(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files that may belong to cards, with what is known of them; a path is relative, with slashes."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False) and depth > 1 and not entry.name.startswith("."):
                yield from _entries(folder / entry.name, f"{path}/", depth - 1)
            elif entry.is_file(follow_symlinks=False) and is_part(path):
                yield path, entry.stat(follow_symlinks=False)


def _revision(entries: Mapping[str, os.stat_result]) -> str:
    known = [(path, stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in entries.items()]
    return hashlib.sha256(repr(known).encode()).hexdigest()


def _content(path: Path) -> bytes:
    """Return a file's bytes; of one that is too large, enough to see that it is."""
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)
