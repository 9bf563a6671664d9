"""From bytes to a tree of values: YAML 1.1, with limits that hold before anything is built.

The events of libyaml are turned into dicts, lists and scalars by a loop with its own stack, so neither the depth of a
document nor the size to which its aliases would expand can hurt. Where in the text something stands is found out only
if it is asked for (:mod:`indaco_tosca.positions`), since nearly every document is fine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

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


class Document(NamedTuple):
    """A loaded document. ``duplicates`` lists the keys that are given twice: the last value is the one that counts."""

    value: object
    duplicates: tuple[Problem, ...]
    positions: Positions

    def locate(self, path: Path) -> tuple[int, int]:
        """Return line and column, from 1, of the deepest part of a path that the document has."""
        return self.positions.locate(path)


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
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    if len(data) > max_bytes:
        raise _refusal("document-too-large", f"the document has {len(data)} bytes, {max_bytes} are allowed")
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeError:
        raise _refusal("not-utf-8", "the document is not UTF-8 text") from None


def _refusal(code: str, message: str, mark: object = None) -> TemplateError:
    return TemplateError([Problem(code, "", message, place=partial(point, mark))])


class _Special:
    """What few open containers have: an anchor, with how many values there were before it, and what is merged into it."""

    __slots__ = ("anchor", "before", "merged")

    def __init__(self, anchor: str | None = None, before: int = 0) -> None:
        self.anchor, self.before = anchor, before
        self.merged: list[dict[str, object]] = []


class _Reader:
    """Builds values from events; refuses as soon as a limit is passed."""

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self._duplicates: list[Problem] = []
        self._documents: list[object] = []
        self._outer: list[tuple[Any, str | None]] = []  # the containers around the open one, and their last key
        self._special: dict[int, _Special] = {}  # of open containers, by how many are around them
        self._anchors: dict[str, tuple[object, int]] = {}  # value, and how many values it consists of
        self._nodes = 0

    def document(self) -> Document:
        if not self._documents:
            raise _refusal("empty-document", "the document is empty")
        return Document(self._documents[0], tuple(self._duplicates), self._positions)

    def read(self, next_event: Callable[[], Any]) -> None:
        """Build what the events say.

        What nearly every event needs stands in this one loop, on local variables: calls would double its time.
        """
        outer, key = self._outer, None
        target: Any = self._documents
        while (kind := type(event := next_event())) is not StreamEndEvent:
            if kind is ScalarEvent:
                self._nodes += 1  # the limit of bytes holds for these; theirs is looked at when a container ends
                value = event.value
                if event.tag is not None or event.anchor is not None:
                    value = self._marked(event)
                elif event.implicit[0] and (value in _PLAIN_WORDS or value[0] in NUMBER_START):
                    value = _plain(value)
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                self._nodes += 1
                is_key = key is None and type(target) is dict
                outer.append((target, key))
                target, key = {} if kind is MappingStartEvent else [], None
                if is_key or event.tag is not None or event.anchor is not None or len(outer) > MAX_DEPTH:
                    self._open(event, is_key=is_key)
                continue
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                if self._special or self._nodes > MAX_NODES:
                    self._close(target, event)
                value, event = target, _NOWHERE
                target, key = outer.pop()
            elif kind is AliasEvent:
                value = self._alias(event)
            else:
                if kind is DocumentStartEvent and target:
                    raise _refusal("several-documents", "a template is a single YAML document", event.start_mark)
                continue
            if type(target) is list:
                target.append(value)
            elif key is None:
                key = value if type(value) is str else self._key(value, event)
            elif key is _MERGE or key in target:
                self._place_again(target, key, value, event)
                key = None
            else:
                target[key] = value
                key = None

    def _marked(self, event: Any) -> object:
        """Return a plain value that has a tag or an anchor."""
        value: object = event.value
        if event.tag is not None:
            value = self._tagged(event)
        elif event.implicit[0]:
            value = _plain(event.value)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        return value

    def _tagged(self, event: Any) -> object:
        tag, text = str(event.tag), str(event.value)
        if tag == "!":
            return text
        if tag not in _SCALAR_TAGS:
            raise _refusal("unknown-tag", f"the tag {tag[:80]!r} is not allowed", event.start_mark)
        return text if tag == _TAG + "str" else resolve_plain(text)

    def _place_again(self, target: dict[str, object], key: str, value: object, event: yaml.Event) -> None:
        """Put a value into a mapping for the merge key, or for a key given before."""
        if key is _MERGE:
            self._merge(value, event)
        else:
            self._note_duplicate(key)
            target[key] = value

    def _merge(self, value: object, event: yaml.Event) -> None:
        if self._nodes > MAX_NODES:
            self._refuse_size(event)
        sources: list[Any] = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            raise _refusal("bad-merge", "the merge key << takes a mapping or a list of mappings", event.start_mark)
        self._special.setdefault(len(self._outer), _Special()).merged += sources

    def _key(self, value: object, event: yaml.Event) -> str:
        if isinstance(value, dict | list):
            raise _refusal("key-not-text", "a key must be a plain value", event.start_mark)
        return value if isinstance(value, str) else source_text(value)

    def _note_duplicate(self, key: str) -> None:
        steps = (len(value) if step is None else step for value, step in self._outer[1:])
        path: Path = (*steps, key)
        message = f"the key {key[:80]!r} is given twice; the last one counts"
        place = self._positions.place(path)
        self._duplicates.append(Problem("duplicate-key", pointer(path), message, "keep one of the two", place))
        if len(self._duplicates) > MAX_DUPLICATES:
            message = f"more than {MAX_DUPLICATES} keys are given twice"
            raise TemplateError([Problem("too-many-duplicates", pointer(path), message, place=place)])

    def _open(self, event: Any, *, is_key: bool) -> None:
        """Check the beginning of a container that has a tag or an anchor, is a key, or lies deep."""
        if event.tag is not None and event.tag != "!" and event.tag not in _CONTAINER_TAGS:
            raise _refusal("unknown-tag", f"the tag {str(event.tag)[:80]!r} is not allowed", event.start_mark)
        if len(self._outer) > MAX_DEPTH:
            self._refuse_depth(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (None, 0)  # open: an alias to it would be a circle
            self._special[len(self._outer)] = _Special(event.anchor, self._nodes)
        if is_key:
            raise _refusal("key-not-text", "a key must be a plain value", event.start_mark)

    def _close(self, value: Any, event: yaml.Event) -> None:
        """Finish a container, of which there are too many or one that has something special."""
        if self._nodes > MAX_NODES:
            self._refuse_size(event)
        special = self._special.pop(len(self._outer), None)
        if special is None:
            return
        for source in special.merged:
            value |= {key: item for key, item in source.items() if key not in value}
        if special.anchor is not None:
            self._anchors[special.anchor] = (value, self._nodes - special.before + 1)

    def _alias(self, event: Any) -> object:
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
        return value

    def _refuse_size(self, event: yaml.Event) -> None:
        message = f"the document has more than {MAX_NODES} values, aliases included"
        raise _refusal("too-many-nodes", message, event.start_mark)

    def _refuse_depth(self, event: yaml.Event) -> None:
        raise _refusal("too-deep", f"the document is nested deeper than {MAX_DEPTH} levels", event.start_mark)


_NOWHERE: Final = yaml.Event()  # for a value that was checked when it began


def _plain(text: str) -> object:
    return _PLAIN_WORDS[text] if text in _PLAIN_WORDS else resolve_plain(text)


def _height(value: object) -> int:
    """Return how many levels of mappings and sequences a value has; its size was counted before."""
    height, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        height += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return height
