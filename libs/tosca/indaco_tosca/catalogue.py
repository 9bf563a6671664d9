"""The service catalogue: cards with versioned templates, made of files that the caller has read.

A card is a folder: ``card.yaml``, a guide, and for each version ``template.yaml`` with its ``test.yaml`` and, where the
form needs them, ``parameters.yaml``. A card with anything wrong in it is left out, with every problem and its place; the
others stay. :mod:`indaco_tosca.catalogue_check` runs the tests.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from indaco_tosca import load
from indaco_tosca.errors import Problem, TemplateError
from indaco_tosca.load import Document
from indaco_tosca.model import ImportResolver, Template
from indaco_tosca.parser import parse
from indaco_tosca.positions import Path
from indaco_tosca.sheet import Sheet
from indaco_tosca.svg import flaw
from indaco_tosca.tree import as_list, as_map

CARD, ICON, GUIDE = "card.yaml", "icon.svg", "guide.md"
TEMPLATE, TEST, PARAMETERS = "template.yaml", "test.yaml", "parameters.yaml"  # of a version
MAX_FILES: Final = 5_000
MAX_BYTES: Final = 32 * 1024 * 1024  # of all files
MAX_FILE_BYTES: Final = load.MAX_BYTES
MAX_GUIDE_BYTES: Final = 64 * 1024
MAX_CARDS: Final = 500
MAX_VERSIONS: Final = 50  # of a card
MAX_CASES: Final = 50  # of a version
MAX_PROBLEMS: Final = 100  # of a card; every card with a problem has one in the list
MAX_TITLE, MAX_DESCRIPTION = 80, 300  # characters
LAST_ORDER: Final = 1000  # of a card that does not say

_READ: Final = (".yaml", ".md", ".svg")
_DEPTHS: Final = (2, 3)  # parts of the path of a card's file and of a version's
_RESERVED: Final = frozenset({"status", "reload"})  # the catalogue's own addresses
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_VERSION = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")
_GROUP = re.compile(r"[A-Za-z0-9_.@+=/-]{0,255}\*?")
_CARD_KEYS: Final = frozenset({"title", "description", "icon", "tags", "guide", "groups", "order"})
_CASE_KEYS: Final = frozenset({"name", "inputs", "expect"})


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A problem of one file; its path is a pointer into that file."""

    file: str
    problem: Problem

    @property
    def card(self) -> str:
        return self.file.partition("/")[0]

    def dump(self) -> dict[str, str | int]:
        """Return what a person needs to mend it, for JSON."""
        found = self.problem
        place: dict[str, str | int] = {"file": self.file, "line": found.line, "column": found.column}
        return place | {"path": found.path, "code": found.code, "message": found.message, "hint": found.hint}


@dataclass(frozen=True, slots=True)
class Case:
    """One test of a template: with these inputs, this plan."""

    name: str
    inputs: Mapping[str, object] = field(repr=False)
    expect: Mapping[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a card's template; ``digest`` is the SHA-256 of its text, ``parameters`` are hints for its form."""

    folder: str
    number: str
    template: str = field(repr=False)
    parsed: Template = field(repr=False)
    digest: str
    parameters: Mapping[str, object] = field(repr=False)
    cases: tuple[Case, ...]
    test: Document = field(repr=False)

    @property
    def order(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.number.split("."))


@dataclass(frozen=True, slots=True)
class Card:
    """A service on offer. ``groups`` without entries is for everybody; ``svg`` is the icon's text if it is its own."""

    name: str
    title: str
    description: str
    icon: str
    svg: str = field(repr=False)
    tags: tuple[str, ...]
    groups: tuple[str, ...]
    guide: str = field(repr=False)
    order: int
    versions: tuple[Version, ...]

    def version(self, number: str = "") -> Version | None:
        """Return the version of that number, or the newest."""
        return next((each for each in self.versions if number in {"", each.number}), None)

    def is_for(self, groups: Iterable[str]) -> bool:
        """Return whether members of any of the groups (paths without a slash in front) may use the card."""
        return not self.groups or any(_admits(entry, group) for group in groups for entry in self.groups)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Cards by name, and what is wrong with those that were left out; ``groups`` are those of the latter, as far as they can be read."""

    cards: Mapping[str, Card]
    problems: tuple[FileProblem, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def visible_to(self, groups: Collection[str]) -> tuple[Card, ...]:
        """Return the cards that members of any of the groups may use, in the order in which they are shown."""
        seen = (card for card in self.cards.values() if card.is_for(groups))
        return tuple(sorted(seen, key=lambda card: (card.order, card.title.casefold(), card.name)))

    def without(self, problems: Iterable[FileProblem]) -> Catalogue:
        """Return the catalogue without the cards that have one of these problems too."""
        found = tuple(problems)
        bad = {problem.card for problem in found}
        good = {name: card for name, card in self.cards.items() if name not in bad}
        groups = {name: card.groups for name, card in self.cards.items() if name in bad}
        return Catalogue(good, (*self.problems, *found), {**self.groups, **groups})

    def keeping(self, last: Catalogue) -> Catalogue:
        """Return the catalogue with the last good state of each card that was left out now, for those whom it is for now."""
        bad = {problem.card for problem in self.problems}
        kept = {name: self._narrowed(card) for name, card in last.cards.items() if name in bad}
        return replace(self, cards={**self.cards, **kept})

    def _narrowed(self, card: Card) -> Card:
        groups = self.groups.get(card.name) or card.groups
        return card if groups == card.groups else replace(card, groups=groups)


def is_part(path: str) -> bool:
    """Return whether a file could belong to a card; its path is relative to the catalogue, with slashes."""
    parts = path.split("/")
    return len(parts) in _DEPTHS and path.endswith(_READ) and not any(part.startswith(".") for part in parts)


def check_sizes(sizes: Mapping[str, int]) -> None:
    """Refuse a catalogue that is too large, before its files are read: path → bytes. Raises: TemplateError."""
    if len(sizes) > MAX_FILES:
        raise _refusal("catalogue-too-large", f"the catalogue has {len(sizes)} files, {MAX_FILES} are allowed")
    if (total := sum(sizes.values())) > MAX_BYTES:
        raise _refusal("catalogue-too-large", f"the catalogue has {total} bytes, {MAX_BYTES} are allowed")


def read(files: Mapping[str, bytes], *, resolve: ImportResolver | None = None) -> Catalogue:
    """Return the catalogue that files make: path → content, of which only those that are a part of one count.

    Templates may import what ``resolve`` gives beside the bundled types.

    Raises: TemplateError, where nothing of it can be used: it is too large, or there is no card at all.
    """
    parts = {path: content for path, content in files.items() if is_part(path)}
    check_sizes({path: len(content) for path, content in parts.items()})
    folders: dict[str, dict[str, bytes]] = {}
    for path, content in sorted(parts.items()):
        name, _, rest = path.partition("/")
        folders.setdefault(name, {})[rest] = content
    if not folders:
        raise _refusal("catalogue-empty", f"there is no card: no folder with a {CARD}")
    if len(folders) > MAX_CARDS:
        raise _refusal("catalogue-too-large", f"the catalogue has {len(folders)} cards, {MAX_CARDS} are allowed")
    readers = [_Reader(name, content, resolve) for name, content in folders.items()]
    cards = {reader.name: card for reader in readers if (card := reader.card())}
    problems = tuple(problem for reader in readers for problem in reader.problems[:MAX_PROBLEMS])
    groups = {
        reader.name: reader.groups for reader in readers if reader.name not in cards and reader.groups is not None
    }
    return Catalogue(cards, problems, groups)


def _refusal(code: str, message: str) -> TemplateError:
    return TemplateError([Problem(code, "", message)])


def _admits(entry: str, group: str) -> bool:
    return group.startswith(entry[:-1]) if entry.endswith("*") else group == entry


class _Reader:
    """Reads the folder of one card."""

    def __init__(self, name: str, files: Mapping[str, bytes], resolve: ImportResolver | None) -> None:
        self.name = name
        self.problems: list[FileProblem] = []
        self.groups: tuple[str, ...] = ()
        self._files, self._resolve = files, resolve

    def card(self) -> Card | None:
        """Return the card, or nothing if there is a problem."""
        if not _NAME.fullmatch(self.name) or self.name in _RESERVED:
            hint = "small letters, digits and hyphens, 63 at most; not " + " or ".join(sorted(_RESERVED))
            self._wrong(CARD, f"{self.name[:80]!r} is no name for a card", hint)
        sheet = self._sheet(CARD, self._files.get(CARD))
        if sheet is None:
            return None
        self.groups = _groups(sheet)
        sheet.check_keys(sheet.content, _CARD_KEYS, ())
        icon = self._icon(sheet)
        found = Card(
            name=self.name,
            title=sheet.text(sheet.content.get("title"), ("title",), limit=MAX_TITLE, is_required=True),
            description=sheet.text(
                sheet.content.get("description"), ("description",), limit=MAX_DESCRIPTION, is_required=True
            ),
            icon=icon,
            svg=self._svg() if icon == ICON else "",
            tags=sheet.texts("tags"),
            groups=self.groups,
            guide=self._guide(sheet.text(sheet.content.get("guide"), ("guide",))),
            order=sheet.integer("order", LAST_ORDER),
            versions=self._versions(),
        )
        self._take(CARD, sheet)
        return None if self.problems else found

    def _icon(self, sheet: Sheet) -> str:
        icon = sheet.text(sheet.content.get("icon"), ("icon",))
        if icon and icon != ICON and not _NAME.fullmatch(icon):
            sheet.error("bad-icon", ("icon",), f"{icon!r} is no icon", f"a name such as server, or {ICON}")
        return icon

    def _versions(self) -> tuple[Version, ...]:
        numbers = sorted({path.partition("/")[0] for path in self._files if "/" in path})
        if not numbers:
            self._wrong(CARD, "the card has no version", f"put the template into 1.0.0/{TEMPLATE}")
        if len(numbers) > MAX_VERSIONS:
            self._wrong(CARD, f"the card has {len(numbers)} versions, {MAX_VERSIONS} are allowed")
            return ()
        found = [version for number in numbers if (version := self._version(number))]
        return tuple(sorted(found, key=lambda version: version.order, reverse=True))

    def _version(self, number: str) -> Version | None:
        template, test = f"{number}/{TEMPLATE}", f"{number}/{TEST}"
        if not _VERSION.fullmatch(number):
            self._wrong(template, f"{number[:80]!r} is no version", "three numbers, such as 1.0.0")
            return None
        parsed = self._template(template)
        cases = self._cases(test)
        parameters = self._parameters(f"{number}/{PARAMETERS}")
        if parsed is None or cases is None:
            return None
        content = self._files[template]
        text, digest = content.decode("utf-8-sig"), hashlib.sha256(content).hexdigest()
        return Version(f"{self.name}/{number}", number, text, parsed, digest, parameters, *cases)

    def _template(self, file: str) -> Template | None:
        content = self._files.get(file)
        if content is None:
            self._absent(file)
            return None
        try:
            return parse(content, resolve=self._resolve)
        except TemplateError as error:
            self._refused(file, error)
            return None

    def _parameters(self, file: str) -> Mapping[str, object]:
        sheet = self._sheet(file, self._files[file]) if file in self._files else None
        if sheet is None:
            return {}
        self._take(file, sheet)
        return sheet.content

    def _cases(self, file: str) -> tuple[tuple[Case, ...], Document] | None:
        sheet = self._sheet(file, self._files.get(file))
        if sheet is None:
            return None
        cases = as_list(sheet.content.get("cases"))
        if not 0 < len(cases) <= MAX_CASES:
            hint = "each with a name, inputs and what to expect"
            sheet.error("bad-structure", ("cases",), f"a test has from 1 to {MAX_CASES} cases", hint)
            cases = []
        found = tuple(_case(sheet, case, ("cases", index)) for index, case in enumerate(cases))
        self._take(file, sheet)
        return found, sheet.document

    def _guide(self, name: str) -> str:
        file = name or GUIDE
        content = self._files.get(file) if "/" not in file else None
        if content is None:
            if name:
                self._absent(file)
            return ""
        if len(content) > MAX_GUIDE_BYTES:
            self._wrong(file, f"the guide has {len(content)} bytes, {MAX_GUIDE_BYTES} are allowed")
            return ""
        return self._decoded(file, content)

    def _svg(self) -> str:
        content = self._files.get(ICON)
        if content is None:
            self._absent(ICON)
            return ""
        if why := flaw(content):
            self._wrong(ICON, why, "an icon is of plain shapes: no script, style, link or declaration")
            return ""
        return self._decoded(ICON, content)

    def _decoded(self, file: str, content: bytes) -> str:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            self._wrong(file, "the file is not UTF-8 text")
            return ""

    def _sheet(self, file: str, content: bytes | None) -> Sheet | None:
        if content is None:
            self._absent(file)
            return None
        try:
            document = load.load(content)
        except TemplateError as error:
            self._refused(file, error)
            return None
        self._refused(file, TemplateError(document.duplicates))
        return Sheet(document)

    def _absent(self, file: str) -> None:
        self._wrong(file, "the file is missing", "it must be a plain file, not a link")

    def _wrong(self, file: str, message: str, hint: str = "") -> None:
        self._refused(file, TemplateError([Problem("bad-card", "", message, hint)]))

    def _take(self, file: str, sheet: Sheet) -> None:
        try:
            sheet.raise_errors()
        except TemplateError as error:
            self._refused(file, error)

    def _refused(self, file: str, error: TemplateError) -> None:
        self.problems += [FileProblem(f"{self.name}/{file}", problem) for problem in error.problems]


def _groups(sheet: Sheet) -> tuple[str, ...]:
    groups = sheet.texts("groups")
    for index, group in enumerate(groups):
        if not _GROUP.fullmatch(group):
            hint = "a path such as cms/analysis; a * at its end stands for all that begin so"
            sheet.error("bad-group", ("groups", index), f"{group!r} is no group", hint)
    return tuple(group.removeprefix("/") for group in groups)


def _case(sheet: Sheet, raw: object, path: Path) -> Case:
    if not isinstance(raw, dict):
        sheet.error("bad-structure", path, "a case must be a map with a name, inputs and what to expect")
    content = as_map(raw)
    sheet.check_keys(content, _CASE_KEYS, path)
    name = sheet.text(content.get("name"), (*path, "name"), is_required=True)
    if not isinstance(content.get("inputs"), dict | None):
        sheet.error("bad-structure", (*path, "inputs"), "inputs must be a map")
    if not as_map(content.get("expect")):
        sheet.error("bad-structure", (*path, "expect"), "a case must expect something")
    return Case(name, as_map(content.get("inputs")), as_map(content.get("expect")))
