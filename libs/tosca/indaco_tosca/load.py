"""From bytes to a tree of values: YAML 1.1, with limits that hold before anything is built.

The events of libyaml are turned into dicts, lists and scalars by a loop with its own stack, so neither the depth of a
document nor the size to which its aliases would expand can hurt. Where in the text something stands is found out only
if it is asked for (:mod:`indaco_tosca.positions`), since nearly every document is fine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import yaml
from yaml import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from indaco_tosca.errors import Problem, TemplateError, pointer
from indaco_tosca.positions import Path, Positions, point
from indaco_tosca.scalars import BOOLEANS, NULLS, NUMBER_START, resolve_plain, source_text

MAX_BYTES: Final = 256 * 1024
MAX_TYPES_BYTES: Final = 1024 * 1024  # type libraries are larger than templates: 100 kB is the largest in public use
MAX_DEPTH: Final = 64
MAX_NODES: Final = 50_000
MAX_DUPLICATES: Final = 100  # keys given twice; public templates have two at most

_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS: Final = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null"))
_CONTAINER_TAGS: Final = frozenset({_TAG + "map", _TAG + "seq"})


class _Merge(str):
    """The merge key: plain, since a quoted one is a key like others."""

    __slots__ = ()


_MERGE: Final = _Merge("<<")
_PLAIN_WORDS: Final[dict[str, object]] = {**BOOLEANS, **dict.fromkeys(NULLS), "<<": _MERGE}


@dataclass(frozen=True, slots=True)
class Document:
    """A loaded document. ``duplicates`` lists the keys that are given twice: the last value is the one that counts."""

    value: object
    duplicates: tuple[Problem, ...]
    _positions: Positions = field(repr=False)

    def locate(self, path: Path) -> tuple[int, int]:
        """Return line and column, from 1, of the deepest part of a path that the document has."""
        return self._positions.locate(path)


def load(text: str | bytes, *, max_bytes: int = MAX_BYTES) -> Document:
    """Read one YAML document.

    Raises: TemplateError, for text that is not UTF-8, not YAML, over a limit, or that uses a foreign tag.
    """
    decoded = _decode(text, max_bytes)
    reader = _Reader(Positions(decoded))
    loader = _Loader(decoded)
    try:
        reader.read(loader.get_event)
    except yaml.MarkedYAMLError as error:
        raise _refusal("yaml-syntax", error.problem or "the text is not YAML", error.problem_mark) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _refusal("yaml-syntax", f"the text is not YAML: {str(error)[:200]}") from None
    finally:
        loader.dispose()
    return reader.document()


def _decode(text: str | bytes, max_bytes: int) -> str:
    size = len(text) if isinstance(text, bytes) else len(text.encode("utf-8", "surrogatepass"))
    if size > max_bytes:
        raise _refusal("document-too-large", f"the document has {size} bytes, {max_bytes} are allowed")
    try:
        return text.decode("utf-8-sig") if isinstance(text, bytes) else text.encode().decode("utf-8-sig")
    except UnicodeError:
        raise _refusal("not-utf-8", "the document is not UTF-8 text") from None


def _refusal(code: str, message: str, mark: object = None) -> TemplateError:
    return TemplateError([Problem(code, "", message, place=partial(point, mark))])


class _Frame:
    """A mapping or sequence that is still open; ``before`` is how many values there were when it began."""

    __slots__ = ("anchor", "before", "key", "merged", "value")

    def __init__(self, value: dict[str, object] | list[object], anchor: str | None, before: int) -> None:
        self.value, self.anchor, self.before = value, anchor, before
        self.key: str | None = None
        self.merged: list[object] | None = None


class _Reader:
    """Builds values from events; refuses as soon as a limit is passed."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self._duplicates: list[Problem] = []
        self._outer: list[_Frame] = []
        self._frame = _Frame([], None, 0)  # the stream: a list of documents
        self._anchors: dict[str, tuple[object, int]] = {}  # value, and how many values it consists of
        self._nodes = 0

    def document(self) -> Document:
        documents = self._frame.value
        if not documents or not isinstance(documents, list):
            raise _refusal("empty-document", "the document is empty")
        return Document(documents[0], tuple(self._duplicates), self._positions)

    def read(self, next_event: Callable[[], yaml.Event]) -> None:
        kind: type[yaml.Event] | None = None
        scalar = self._scalar
        while kind is not StreamEndEvent:
            event = next_event()
            kind = type(event)
            if kind is ScalarEvent:
                scalar(event)
            elif kind is MappingStartEvent:
                self._open(event, {})
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                self._close(event)
            elif kind is SequenceStartEvent:
                self._open(event, [])
            elif kind is AliasEvent:
                self._alias(event)
            elif kind is DocumentStartEvent and self._frame.value:
                raise _refusal("several-documents", "a template is a single YAML document", event.start_mark)

    def _scalar(self, event: Any) -> None:
        self._nodes += 1  # the limit of bytes holds for plain values; theirs is looked at when a container ends
        text: str = event.value
        value: object = text
        if event.tag is not None:
            value = self._tagged(event)
        elif event.implicit[0]:
            if text in _PLAIN_WORDS:
                value = _PLAIN_WORDS[text]
            elif text[0] in NUMBER_START:
                value = resolve_plain(text)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        self._place(value, event)

    def _tagged(self, event: Any) -> object:
        tag, text = str(event.tag), str(event.value)
        if tag == "!":
            return text
        if tag not in _SCALAR_TAGS:
            raise _refusal("unknown-tag", f"the tag {tag[:80]!r} is not allowed", event.start_mark)
        return text if tag == _TAG + "str" else resolve_plain(text)

    def _place(self, value: object, event: yaml.Event) -> None:
        """Put a value where it belongs: at the end of a list, as the next key of a mapping, or as the value of its key."""
        frame = self._frame
        target, key = frame.value, frame.key
        if type(target) is list:
            target.append(value)
        elif key is None:
            frame.key = value if type(value) is str else self._key(value, event)
            return
        elif key is _MERGE:
            self._merge(frame, value, event)
        else:
            if key in target:
                self._note_duplicate(key)
            target[key] = value  # type: ignore[call-overload]
        frame.key = None

    def _merge(self, frame: _Frame, value: object, event: yaml.Event) -> None:
        if self._nodes > MAX_NODES:
            self._refuse_size(event)
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            raise _refusal("bad-merge", "the merge key << takes a mapping or a list of mappings", event.start_mark)
        if frame.merged is None:
            frame.merged = []
        frame.merged += sources

    def _key(self, value: object, event: yaml.Event) -> str:
        if isinstance(value, dict | list):
            raise _refusal("key-not-text", "a key must be a plain value", event.start_mark)
        return value if isinstance(value, str) else source_text(value)

    def _note_duplicate(self, key: str) -> None:
        frames = [*self._outer[1:], self._frame]
        steps = (frame.key if isinstance(frame.value, dict) else len(frame.value) for frame in frames)
        path: Path = tuple(step if step is not None else "" for step in steps)
        message = f"the key {key[:80]!r} is given twice; the last one counts"
        place = self._positions.place(path)
        self._duplicates.append(Problem("duplicate-key", pointer(path), message, "keep one of the two", place))
        if len(self._duplicates) > MAX_DUPLICATES:
            message = f"more than {MAX_DUPLICATES} keys are given twice"
            raise TemplateError([Problem("too-many-duplicates", pointer(path), message, place=place)])

    def _open(self, event: Any, value: dict[str, object] | list[object]) -> None:
        if event.tag is not None and event.tag != "!" and event.tag not in _CONTAINER_TAGS:
            raise _refusal("unknown-tag", f"the tag {str(event.tag)[:80]!r} is not allowed", event.start_mark)
        self._nodes += 1
        self._outer.append(self._frame)
        if len(self._outer) > MAX_DEPTH:
            self._refuse_depth(event)
        self._frame = _Frame(value, event.anchor, self._nodes)
        if event.anchor is not None:
            self._anchors[event.anchor] = (None, 0)  # open: an alias to it would be a circle
        if isinstance(self._outer[-1].value, dict) and self._outer[-1].key is None:
            self._key(value, event)

    def _close(self, event: yaml.Event) -> None:
        frame = self._frame
        if self._nodes > MAX_NODES:
            self._refuse_size(event)
        value = frame.value
        for source in frame.merged or ():
            assert isinstance(source, dict)
            assert isinstance(value, dict)
            value |= {key: item for key, item in source.items() if key not in value}
        if frame.anchor is not None:
            self._anchors[frame.anchor] = (value, self._nodes - frame.before + 1)
        self._frame = self._outer.pop()
        self._place(value, _NOWHERE)

    def _alias(self, event: yaml.Event) -> None:
        assert isinstance(event, yaml.AliasEvent)
        name = str(event.anchor)
        value, size = self._anchors.get(name, (None, -1))
        if size <= 0:
            what, code = ("is not defined", "unknown-alias") if size else ("refers to itself", "recursive-alias")
            raise _refusal(code, f"the alias *{name[:80]} {what}", event.start_mark)
        self._nodes += size
        if self._nodes > MAX_NODES:
            self._refuse_size(event)
        if len(self._outer) + _height(value) > MAX_DEPTH:
            self._refuse_depth(event)
        self._place(value, event)

    def _refuse_size(self, event: yaml.Event) -> None:
        message = f"the document has more than {MAX_NODES} values, aliases included"
        raise _refusal("too-many-nodes", message, event.start_mark)

    def _refuse_depth(self, event: yaml.Event) -> None:
        raise _refusal("too-deep", f"the document is nested deeper than {MAX_DEPTH} levels", event.start_mark)


_NOWHERE: Final = yaml.Event()  # for a value that was checked when it began


def _height(value: object) -> int:
    """Return how many levels of mappings and sequences a value has; its size was counted before."""
    height, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        height += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return height
