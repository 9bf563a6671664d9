"""A map from URLs to local files, for sites without a network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self
from urllib.parse import unquote

from indaco_common.errors import Invalid, PolicyRefused, Unavailable

from .lock import MAX_TEXT_BYTES


@dataclass(frozen=True, slots=True)
class Mirror:
    """A source of texts on disk. A prefix that ends with ``/`` stands for a folder, another one for a file; the longest one counts."""

    places: dict[str, Path]
    origin: Literal["mirror"] = "mirror"

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read lines of URL, tab, path (relative to *file*), and what else; ``#`` begins a comment, a first line may name the columns.

        Raises: Invalid, naming the line; Unavailable.
        """
        try:
            text = read_text(file).decode()
        except UnicodeDecodeError:
            raise Invalid(f"{file}: it is not UTF-8 text") from None
        places = {}
        for number, line in enumerate(text.splitlines(), 1):
            url, *rest = line.split("\t")
            if not line.strip() or line.startswith("#") or (number == 1 and "://" not in url):
                continue
            if "://" not in url or not rest or not rest[0]:
                raise Invalid(
                    f"{file}, line {number}: write a URL or its prefix, a tab, and the path of a file or folder"
                )
            places[url] = file.parent / rest[0]
        return cls(places)

    def covers(self, url: str) -> bool:
        return self._prefix(url) is not None

    async def text(self, url: str) -> bytes:
        """Raises: PolicyRefused, for what is not in the map or points out of its folder; Unavailable; Invalid."""
        prefix = self._prefix(url)
        if prefix is None:
            raise PolicyRefused(f"{url} is not in the mirror map")
        place = self.places[prefix]
        file = _below(place, unquote(url.removeprefix(prefix))) if prefix.endswith("/") else place
        if file is None:
            raise PolicyRefused(f"{url} points out of the folder of {prefix}")
        return read_text(file)

    def _prefix(self, url: str) -> str | None:
        matches = (p for p in self.places if url == p or (p.endswith("/") and url.startswith(p)))
        return max(matches, key=len, default=None)


def _below(folder: Path, name: str) -> Path | None:
    """Return the file *name* in *folder*, symbolic links followed, or None if it is outside."""
    if "\0" in name:
        return None
    file = (folder / name).resolve()
    return file if file.is_relative_to(folder.resolve()) else None


def read_text(file: Path) -> bytes:
    """Return a file of at most the size of an import. Raises: Unavailable; Invalid, if it is too large."""
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"{file}: {error.strerror}") from None
    if len(text) > MAX_TEXT_BYTES:
        raise Invalid(f"{file}: it has more than {MAX_TEXT_BYTES} bytes")
    return text
