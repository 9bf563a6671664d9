"""From bytes to a tree: YAML 1.1 with positions, and with limits that hold before anything is built.

The events of libyaml are turned into dicts, lists and scalars by a loop with its own stack, so neither the depth of a
document nor the size to which its aliases would expand can hurt. Beside the values grows a tree of marks of the same
shape, from which the line and column of any path can be had.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

import yaml

from indaco_tosca.errors import Problem, TemplateError
from indaco_tosca.scalars import resolve_plain, source_text

MAX_BYTES: Final = 256 * 1024
MAX_TYPES_BYTES: Final = 1024 * 1024  # type libraries are larger than templates: 100 kB is the largest in public use
MAX_DEPTH: Final = 64
MAX_NODES: Final = 50_000

Path = tuple[str | int, ...]
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS: Final = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null"))
_CONTAINER_TAGS: Final = frozenset({_TAG + "map", _TAG + "seq"})


class _Position(Protocol):
    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


@dataclass(slots=True)
class _Mark:
    line: int
    column: int
    children: dict[str, _Mark] | list[_Mark] | None = None
    nodes: int = 1
    height: int = 1


@dataclass(slots=True)
class _Frame:
    value: dict[str, object] | list[object]
    mark: _Mark
    anchor: str | None
    key: str | None = None
    key_mark: _Mark | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A loaded document: its value and where each part of it stands."""

    value: object
    _mark: _Mark = field(repr=False)
    duplicates: tuple[Problem, ...] = ()

    def locate(self, path: Path) -> tuple[int, int]:
        """Return line and column, from 1, of the deepest part of a path that the document has."""
        mark = self._mark
        for part in path:
            children = mark.children
            child: _Mark | None = None
            if isinstance(children, dict) and isinstance(part, str):
                child = children.get(part)
            elif isinstance(children, list) and isinstance(part, int) and part < len(children):
                child = children[part]
            if child is None:
                break
            mark = child
        return mark.line, mark.column


def load(text: str | bytes, *, max_bytes: int = MAX_BYTES, allow_duplicates: bool = False) -> Document:
    """Read one YAML document.

    Duplicate keys are refused; with ``allow_duplicates`` the last one wins and they are listed in the result, for type
    libraries in public use have some.
    Raises: TemplateError, for text that is not UTF-8, not YAML, over a limit, or that uses a foreign tag.
    """
    decoded = _decode(text, max_bytes)
    builder = _Builder(allow_duplicates=allow_duplicates)
    try:
        for event in _events(decoded):
            builder.feed(event)
    except yaml.MarkedYAMLError as error:
        mark = _counted_from_one(error.problem_mark or error.context_mark)
        raise _refusal("yaml-syntax", error.problem or "the text is not YAML", mark) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _refusal("yaml-syntax", f"the text is not YAML: {str(error)[:200]}", None) from None
    return builder.document()


def _events(text: str) -> Iterator[yaml.Event]:
    loader = _Loader(text)
    try:
        while loader.check_event():
            yield loader.get_event()  # type: ignore[no-untyped-call]
    finally:
        loader.dispose()


def _decode(text: str | bytes, max_bytes: int) -> str:
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
    if size > max_bytes:
        raise _refusal("document-too-large", f"the document has {size} bytes, {max_bytes} are allowed", None)
    try:
        return text.decode("utf-8-sig") if isinstance(text, bytes) else text.encode().decode("utf-8-sig")
    except UnicodeError:
        raise _refusal("not-utf-8", "the document is not UTF-8 text", None) from None


def _refusal(code: str, message: str, mark: _Position | None) -> TemplateError:
    line, column = (0, 0) if mark is None else (mark.line, mark.column)
    return TemplateError([Problem(code, "", line, column, message)])


class _Builder:
    """Builds values and marks from events; refuses as soon as a limit is passed."""

    def __init__(self, *, allow_duplicates: bool) -> None:
        self._allow_duplicates = allow_duplicates
        self._duplicates: list[Problem] = []
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[object, _Mark]] = {}
        self._nodes = 0
        self._root: tuple[object, _Mark] | None = None

    def document(self) -> Document:
        if self._root is None:
            raise _refusal("empty-document", "the document is empty", None)
        return Document(self._root[0], self._root[1], tuple(self._duplicates))

    def feed(self, event: yaml.Event) -> None:
        match event:
            case yaml.ScalarEvent():
                self._count(1, event)
                self._place(self._scalar(event), _mark(event), event.anchor)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent() if self._root is not None:
                raise _refusal("several-documents", "a template is a single YAML document", _mark(event))

    def _count(self, nodes: int, event: yaml.Event) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _refusal(
                "too-many-nodes", f"the document has more than {MAX_NODES} values, aliases included", _mark(event)
            )

    def _scalar(self, event: yaml.ScalarEvent) -> object:
        tag: str | None = event.tag
        text: str = event.value
        if tag is None:
            return resolve_plain(text) if event.implicit[0] else text
        if tag == "!":
            return text
        if tag not in _SCALAR_TAGS:
            raise _refusal("unknown-tag", f"the tag {tag[:80]!r} is not allowed", _mark(event))
        return text if tag == _TAG + "str" else resolve_plain(text)

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        if event.tag not in {None, "!"} and event.tag not in _CONTAINER_TAGS:
            raise _refusal("unknown-tag", f"the tag {str(event.tag)[:80]!r} is not allowed", _mark(event))
        self._count(1, event)
        if len(self._stack) >= MAX_DEPTH:
            raise _refusal("too-deep", f"the document is nested deeper than {MAX_DEPTH} levels", _mark(event))
        mark = _mark(event)
        value: dict[str, object] | list[object] = {} if isinstance(event, yaml.MappingStartEvent) else []
        mark.children = {} if isinstance(value, dict) else []
        self._stack.append(_Frame(value, mark, event.anchor))

    def _close(self) -> None:
        frame = self._stack.pop()
        children = frame.mark.children or ()
        marks = list(children.values()) if isinstance(children, dict) else list(children)
        frame.mark.nodes = 1 + sum(child.nodes for child in marks) + (len(marks) if isinstance(children, dict) else 0)
        frame.mark.height = 1 + max((child.height for child in marks), default=0)
        self._place(frame.value, frame.mark, frame.anchor)

    def _alias(self, event: yaml.AliasEvent) -> None:
        if event.anchor not in self._anchors:
            recursive = any(frame.anchor == event.anchor for frame in self._stack)
            message = "refers to itself" if recursive else "is not defined"
            code = "recursive-alias" if recursive else "unknown-alias"
            raise _refusal(code, f"the alias *{str(event.anchor)[:80]} {message}", _mark(event))
        value, mark = self._anchors[event.anchor]
        self._count(mark.nodes, event)
        if len(self._stack) + mark.height > MAX_DEPTH:
            raise _refusal("too-deep", f"the document is nested deeper than {MAX_DEPTH} levels", _mark(event))
        self._place(value, mark, None)

    def _place(self, value: object, mark: _Mark, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, mark)
        if not self._stack:
            self._root = (value, mark)
            return
        frame = self._stack[-1]
        if isinstance(frame.value, list) and isinstance(frame.mark.children, list):
            frame.value.append(value)
            frame.mark.children.append(mark)
        elif frame.key is None:
            frame.key, frame.key_mark = self._key(value, mark), mark
        else:
            self._set(frame, frame.key, value, mark)
            frame.key = None

    def _key(self, value: object, mark: _Mark) -> str:
        if isinstance(value, dict | list):
            raise _refusal("key-not-text", "a key must be a plain value", mark)
        return value if isinstance(value, str) else source_text(value)

    def _set(self, frame: _Frame, key: str, value: object, mark: _Mark) -> None:
        target, marks = frame.value, frame.mark.children
        assert isinstance(target, dict)
        assert isinstance(marks, dict)
        at = frame.key_mark or mark
        if key == "<<":
            self._merge(target, marks, value, mark)
            return
        if key in target and marks[key].line > 0:
            problem = Problem(
                "duplicate-key", "", at.line, at.column, f"the key {key[:80]!r} is given twice", "keep one of the two"
            )
            if not self._allow_duplicates:
                raise TemplateError([problem])
            self._duplicates.append(problem)
        target[key] = value
        marks[key] = _Mark(at.line, at.column, mark.children, mark.nodes, mark.height)

    def _merge(self, target: dict[str, object], marks: dict[str, _Mark], value: object, mark: _Mark) -> None:
        """Fill in the keys of a merged mapping; a line of 0 marks a key that the mapping itself may still override."""
        sources = [(value, mark)]
        if isinstance(value, list) and isinstance(mark.children, list):
            sources = list(zip(value, mark.children, strict=True))
        for source, source_mark in sources:
            if not isinstance(source, dict):
                raise _refusal("bad-merge", "the merge key << takes a mapping or a list of mappings", mark)
            for key, item in source.items():
                children = source_mark.children
                child = children[key] if isinstance(children, dict) else mark
                if key not in target:
                    target[key] = item
                    marks[key] = _Mark(0, 0, child.children, child.nodes, child.height)


def _mark(event: yaml.Event) -> _Mark:
    return _counted_from_one(event.start_mark)


def _counted_from_one(mark: _Position | None) -> _Mark:
    return _Mark(0, 0) if mark is None else _Mark(mark.line + 1, mark.column + 1)
