"""Where types come from: the bundled library, and the imports of a template through an injected resolver.

An import is only a key here; nothing is fetched. What the resolver does not have is taken from the bundled library if
the file name is one that INDIGO templates import, because its types are always present.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from ipaddress import ip_address
from threading import Lock
from typing import Final
from urllib.parse import urljoin, urlsplit

from indaco_tosca.errors import TemplateError
from indaco_tosca.load import MAX_TYPES_BYTES, Document, Path, load
from indaco_tosca.model import ImportResolver
from indaco_tosca.report import Report
from indaco_tosca.tree import as_map, as_text, single_maps
from indaco_tosca.typeset import SECTIONS, TypeSet

BUNDLED_NAMES: Final = frozenset({
    "basic_types.yaml", "custom_types.yaml", "docker_types.yaml", "normative.yaml", "indigo.yaml", "docker.yaml",
})  # fmt: skip
_BUNDLED_FILES: Final = ("normative.yaml", "indigo.yaml", "docker.yaml")
MAX_IMPORTS: Final = 20
MAX_IMPORT_DEPTH: Final = 5
MAX_IMPORT_BYTES: Final = 4 * 1024 * 1024
_KEPT_SETS: Final = 32
_KEYWORDS: Final = frozenset({"file", "repository", "namespace_prefix", "namespace_uri"})


@dataclass(slots=True)
class ImportedTypes:
    """The types that a template sees, and the imports that nobody could provide."""

    types: TypeSet
    missing: tuple[str, ...] = ()


@lru_cache(maxsize=1)
def bundled() -> TypeSet:
    """Return the bundled library, read once for each process."""
    folder = files("indaco_tosca").joinpath("types")
    documents = [load(folder.joinpath(name).read_bytes(), max_bytes=MAX_TYPES_BYTES) for name in _BUNDLED_FILES]
    return TypeSet(_merged([as_map(document.value) for document in documents]))


def import_types(document: Document, resolve: ImportResolver | None, report: Report) -> ImportedTypes:
    """Return the types of a template's imports; what is wrong with an import goes to the report."""
    closure = _Closure(resolve, report)
    closure.visit(as_map(document.value), base="", depth=0, path=("imports",))
    if not closure.texts:
        return ImportedTypes(bundled(), tuple(closure.missing))
    return ImportedTypes(_compiled(tuple(closure.digests), closure.texts), tuple(closure.missing))


@dataclass(slots=True)
class _Closure:
    """Walks imports depth first; the texts end up in the order in which they must be laid over each other."""

    resolve: ImportResolver | None
    report: Report
    texts: list[Mapping[str, object]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)
    _bytes: int = 0

    def visit(self, content: Mapping[str, object], *, base: str, depth: int, path: Path) -> None:
        for name, where in _imports(content):
            place = (*path, *where) if depth == 0 else path
            full = _joined(base, name) if base else name
            refusal = _refusal(full)
            if refusal:
                self.report.error("import-not-allowed", place, f"the import {full[:200]!r} {refusal}")
            elif full not in self._seen:
                self._seen.add(full)
                self._take(full, depth=depth, path=place)

    def _take(self, name: str, *, depth: int, path: Path) -> None:
        if len(self._seen) > MAX_IMPORTS or depth >= MAX_IMPORT_DEPTH:
            message = f"a template may have {MAX_IMPORTS} imports, {MAX_IMPORT_DEPTH} levels deep"
            self.report.error("too-many-imports", path, message)
            return
        text = self.resolve(name) if self.resolve else None
        if text is None:
            self._miss(name, path)
            return
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        self._bytes += len(data)
        if self._bytes > MAX_IMPORT_BYTES:
            self.report.error(
                "imports-too-large", path, f"the imports have more than {MAX_IMPORT_BYTES} bytes together"
            )
            return
        try:
            content = _loaded_types(data)
        except TemplateError as error:
            first = error.problems[0]
            message = f"the import {name[:200]!r} cannot be read: {first.message} (line {first.line})"
            self.report.error("import-not-readable", path, message)
            return
        self.visit(content, base=name, depth=depth + 1, path=path)
        self.texts.append(content)
        self.digests.append(sha256(data).hexdigest())

    def _miss(self, name: str, path: Path) -> None:
        if name.rsplit("/", 1)[-1] in BUNDLED_NAMES:
            return
        self.missing.append(name)
        if "://" in name:
            self.report.warn(
                "import-unresolved", path, f"the import {name[:200]!r} is not available; its types are not"
            )
        else:
            hint = "import it by a URL that is known here, or write its types into the template"
            self.report.error("import-unresolvable", path, f"the file {name[:200]!r} is not here", hint)


@lru_cache(maxsize=_KEPT_SETS)
def _loaded_types(data: bytes) -> Mapping[str, object]:
    return as_map(load(data, max_bytes=MAX_TYPES_BYTES, allow_duplicates=True).value)


_sets: OrderedDict[tuple[str, ...], TypeSet] = OrderedDict()
_sets_lock = Lock()


def _compiled(digests: tuple[str, ...], texts: list[Mapping[str, object]]) -> TypeSet:
    """Return the shared type set of a closure, by the digests of its texts."""
    with _sets_lock:
        known = _sets.get(digests)
        if known is None:
            known = _sets[digests] = TypeSet(_merged(texts), bundled())
            if len(_sets) > _KEPT_SETS:
                _sets.popitem(last=False)
        _sets.move_to_end(digests)
        return known


def _merged(texts: list[Mapping[str, object]]) -> dict[str, dict[str, object]]:
    merged: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    for text in texts:
        for section in SECTIONS:
            merged[section].update(as_map(text.get(section)))
    return merged


def _imports(content: Mapping[str, object]) -> Iterator[tuple[str, Path]]:
    """Yield the name of each import in any of the forms in use, with its path under "imports"."""
    imports = content.get("imports")
    entries: list[tuple[object, Path]] = []
    if isinstance(imports, dict):
        entries = [(value, (key,)) for key, value in imports.items()]
    elif isinstance(imports, list):
        entries = [entry for index, item in enumerate(imports) for entry in _entries(item, index)]
    for value, path in entries:
        file = value if isinstance(value, str) else as_text(as_map(value).get("file"))
        repository = as_text(as_map(value).get("repository"))
        if file:
            yield _in_repository(content, repository, file), path


def _entries(item: object, index: int) -> list[tuple[object, Path]]:
    if isinstance(item, dict) and not _KEYWORDS & item.keys():
        return [(value, (index, *path)) for _, value, path in single_maps(item)]
    return [(item, (index,))]


def _in_repository(content: Mapping[str, object], repository: str, file: str) -> str:
    known = as_map(content.get("repositories")).get(repository) if repository else None
    url = known if isinstance(known, str) else as_text(as_map(known).get("url"))
    return _joined(url if url.endswith("/") else url + "/", file) if url else file


def _joined(base: str, name: str) -> str:
    try:
        return urljoin(base, name)
    except ValueError:
        return name


def _refusal(name: str) -> str:
    """Return why an import is refused whatever the resolver says, or nothing."""
    try:
        parts = urlsplit(name)
        host = parts.hostname or ""
        credentials = parts.username is not None
    except ValueError:
        return "is not a URL"
    if not parts.scheme and not parts.netloc:
        is_outside = name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/")
        return "is outside the folder of the template" if is_outside else ""
    if parts.scheme not in {"http", "https"}:
        return "has a scheme that is not allowed"
    if credentials:
        return "carries credentials"
    return "names a private or numeric host" if _is_private(host) else ""


def _is_private(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        last = host.rstrip(".").rsplit(".", 1)[-1].lower()
        is_numeric = not last[:1].isalpha()  # 127.1 and 0x7f.1 are addresses too
        return is_numeric or "." not in host.strip(".") or last in {"local", "internal", "localhost"}
    return True
