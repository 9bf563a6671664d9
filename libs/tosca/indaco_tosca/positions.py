"""Where in its text each part of a document stands, found out by reading the text once more when somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import yaml

from indaco_tosca.scalars import resolve_plain, source_text

Path = tuple[str | int, ...]
Place = Callable[[], tuple[int, int]]
"""Gives line and column, from 1, or (0, 0)."""
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def nowhere() -> tuple[int, int]:
    """Return the place of what is in no text."""
    return 0, 0


def point(mark: object) -> tuple[int, int]:
    """Return line and column, from 1, of a mark of the YAML reader, which counts from 0."""
    line, column = getattr(mark, "line", -1), getattr(mark, "column", -1)
    return line + 1, column + 1


class _Mark:
    """Line and column from 1; of a value in a mapping, those of its key. The text of a merge key is None."""

    __slots__ = ("children", "column", "key", "line")

    def __init__(self, line: int, column: int, children: dict[str, _Mark] | list[_Mark] | None = None) -> None:
        self.line, self.column, self.children = line, column, children
        self.key: tuple[str | None, int, int] | None = None  # of the pair that is being read


_NONE: Final = _Mark(1, 1)
_TEXT_TAGS: Final = frozenset({"!", "tag:yaml.org,2002:str"})


class Positions:
    """The positions in one text, which has been read without an error before."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._root: _Mark | None = None

    def place(self, path: Path) -> Place:
        """Return a function that gives line and column of a path."""
        return lambda: self.locate(path)

    def locate(self, path: Path) -> tuple[int, int]:
        """Return line and column, from 1, of the deepest part of a path that the text has."""
        if self._root is None:
            self._root = _Marker().read(self._text)
        mark = self._root
        for part in path:
            children = mark.children
            child: _Mark | None = None
            if isinstance(children, dict):
                child = children.get(str(part))
            elif isinstance(children, list) and isinstance(part, int) and part < len(children):
                child = children[part]
            if child is None:
                break
            mark = child
        return mark.line, mark.column


class _Marker:
    """Builds a tree of marks in the shape of the values; an alias shares the marks of what it stands for."""

    def __init__(self) -> None:
        self._stack: list[tuple[_Mark, str | None]] = []
        self._anchors: dict[str, tuple[_Mark, str | None]] = {}
        self._root = _NONE

    def read(self, text: str) -> _Mark:
        loader = _Loader(text)
        try:
            while loader.check_event():
                self._feed(loader.get_event())  # type: ignore[no-untyped-call]
        finally:
            loader.dispose()
        return self._root

    def _feed(self, event: yaml.Event) -> None:
        match event:
            case yaml.ScalarEvent():
                text = _text(event) if self._awaits_key() or event.anchor is not None else ""
                self._place(_Mark(*point(event.start_mark)), event.anchor, text)
            case yaml.MappingStartEvent():
                self._open(event, {})
            case yaml.SequenceStartEvent():
                self._open(event, [])
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                mark, anchor = self._stack.pop()
                self._place(mark, anchor)
            case yaml.AliasEvent():
                mark, text = self._anchors.get(str(event.anchor), (_NONE, ""))
                self._place(_Mark(*point(event.start_mark)) if self._awaits_key() else mark, None, text)

    def _awaits_key(self) -> bool:
        parent = self._stack[-1][0] if self._stack else _NONE
        return isinstance(parent.children, dict) and parent.key is None

    def _open(self, event: yaml.CollectionStartEvent, children: dict[str, _Mark] | list[_Mark]) -> None:
        self._stack.append((_Mark(*point(event.start_mark), children), event.anchor))

    def _place(self, mark: _Mark, anchor: str | None, text: str | None = "") -> None:
        if anchor is not None:
            self._anchors[anchor] = mark, text
        if not self._stack:
            self._root = mark
            return
        parent = self._stack[-1][0]
        if isinstance(parent.children, list):
            parent.children.append(mark)
        elif parent.key is None:
            parent.key = (text, mark.line, mark.column)
        elif isinstance(parent.children, dict):
            key, line, column = parent.key
            parent.key = None
            self._set(parent.children, key, _Mark(line, column, mark.children))

    def _set(self, children: dict[str, _Mark], key: str | None, mark: _Mark) -> None:
        """Add the mark of a pair; what a merge key brings in is marked where it was written."""
        if key is None:
            sources = mark.children if isinstance(mark.children, list) else [mark]
            for source in sources:
                if isinstance(source.children, dict):
                    children |= {name: child for name, child in source.children.items() if name not in children}
        else:
            children[key] = mark


def _text(event: yaml.ScalarEvent) -> str | None:
    """Return a scalar as the key that loading makes of it; None for the merge key."""
    text = str(event.value)
    is_plain = event.implicit[0] if event.tag is None else event.tag not in _TEXT_TAGS
    if not is_plain:
        return text
    return None if text == "<<" and event.tag is None else source_text(resolve_plain(text))
