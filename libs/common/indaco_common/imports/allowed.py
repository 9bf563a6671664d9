"""Which URLs may be fetched: an allow-list of hosts with path prefixes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

from yarl import URL

from indaco_common.errors import Invalid


@dataclass(frozen=True, slots=True)
class AllowList:
    """Prefixes of URLs; ``example.org/types/`` allows what is below it, over https, and nothing beside it."""

    prefixes: tuple[URL, ...]

    @classmethod
    def of(cls, entries: Sequence[str]) -> Self:
        """Return the list of *entries*, each ``host[:port]/path``. Raises: Invalid, naming the entry."""
        return cls(tuple(_prefix(entry) for entry in entries))

    def admits(self, url: URL) -> bool:
        if url.scheme != "https" or url.user is not None or url.password is not None:
            return False
        if ".." in unquote(url.raw_path).replace("\\", "/").split("/"):  # what is not encoded is resolved already
            return False
        return any(prefix.origin() == url.origin() and _is_below(url, prefix) for prefix in self.prefixes)


def shown(url: str) -> str:
    """Return *url* for a message: without credentials, and without the query, which of a redirect may hold a signature."""
    return re.sub(r"//[^/?#]*@", "//", url).partition("?")[0][:200]


def _prefix(entry: str) -> URL:
    text = entry.removeprefix("https://")
    try:
        url = URL(f"https://{text}")
        is_prefix = url.raw_host and "://" not in text and not (url.user or url.query_string or url.fragment)
    except ValueError:
        is_prefix = False
    if not is_prefix:
        raise Invalid(
            f"{shown(entry)!r} allows nothing: write host/path/, such as raw.githubusercontent.com/indigo-dc/"
        )
    return url


def _is_below(url: URL, prefix: URL) -> bool:
    folder = prefix.raw_path if prefix.raw_path.endswith("/") else prefix.raw_path + "/"
    return url.raw_path == prefix.raw_path or url.raw_path.startswith(folder)
