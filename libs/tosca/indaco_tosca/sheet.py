"""Small files of our own, such as cards: maps of texts, lists and numbers, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from indaco_tosca.load import Document
from indaco_tosca.positions import Path
from indaco_tosca.report import Report, known
from indaco_tosca.scalars import source_text
from indaco_tosca.tree import as_list, as_map

MAX_LIST: Final = 50  # texts
MAX_TEXT: Final = 255  # characters


class Sheet(Report):
    """One file, and the report about it; a reader gives a harmless value for what it reports."""

    def __init__(self, document: Document) -> None:
        super().__init__(document)
        self.document = document
        self.content = as_map(document.value)
        if not isinstance(document.value, dict):
            self.error("bad-structure", (), "the file must be a map")

    def check_keys(self, content: Mapping[str, object], keys: frozenset[str], path: Path) -> None:
        for key in content.keys() - keys:
            self.error("unknown-key", (*path, key), f"there is no key {key[:80]!r} here", known(sorted(keys)))

    def text(self, value: object, path: Path, *, limit: int = MAX_TEXT, is_required: bool = False) -> str:
        """Return a scalar as it was written, on one line."""
        if isinstance(value, dict | list):
            self.error("bad-structure", path, f"{path[-1]} must be text")
            return ""
        text = " ".join(source_text(value).split())
        if is_required and not text:
            self.error("missing", path, f"{path[-1]} is missing")
        if len(text) > limit or not text.isprintable():
            self.error("bad-text", path, f"{path[-1]} must be {limit} printable characters at most")
        return text

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the list under *key* of the file."""
        raw = self.content.get(key)
        if raw is not None and (not isinstance(raw, list) or len(raw) > MAX_LIST):
            self.error("bad-structure", (key,), f"{key} must be a list of {MAX_LIST} texts at most")
            return ()
        return tuple(self.text(item, (key, index), is_required=True) for index, item in enumerate(as_list(raw)))

    def integer(self, key: str, default: int) -> int:
        """Return the number under *key* of the file."""
        value = self.content.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            self.error("bad-structure", (key,), f"{key} must be a whole number")
            return default
        return int(value)
