"""Where types come from: the bundled library, and the imports of a template through an injected resolver.

An import is only a key here; nothing is fetched. What the resolver does not have is taken from the bundled library if
the file name is one that INDIGO templates import. The core of that library is always present; its families are where an
import or all of them are missing, so that a template whose imports are there is read by them alone.
"""

from __future__ import annotations

import pathlib
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_address
from posixpath import dirname, normpath
from threading import Lock
from typing import Final, NamedTuple
from urllib.parse import urljoin, urlsplit

from indaco_tosca.errors import TemplateError
from indaco_tosca.load import MAX_TYPES_BYTES, Document, load
from indaco_tosca.model import ImportResolver
from indaco_tosca.positions import Path
from indaco_tosca.report import Report, kind_of
from indaco_tosca.scalars import source_text
from indaco_tosca.tree import as_map, as_text
from indaco_tosca.typeset import SECTIONS, TypeSet

_CORE_FILES: Final = ("normative.yaml", "indigo.yaml", "docker.yaml", "indaco.yaml")
_FAMILY_FILES: Final = ("containers.yaml", "clusters.yaml", "kubernetes.yaml", "services.yaml", "applications.yaml")
BUNDLED_NAMES: Final = frozenset({
    *_CORE_FILES, *_FAMILY_FILES,
    # what the public repositories of INDIGO, INFN Cloud, Laniakea, DODAS and GRyCAP call the files of these types
    "custom_types.yaml", "basic_types.yaml", "cluster_basic_types.yaml", "docker_types.yaml",
    "docker_runtime_types.yaml", "mesos_types.yaml", "kubernetes_types.yaml", "htcondor_types.yaml",
    "htcondor_mini_types.yaml", "spark_types.yaml", "jupyter_types.yaml", "iam_types.yaml", "elastic_types.yaml",
    "elasticstack_types.yaml", "storage_apps_types.yaml", "laniakea_types.yaml", "c-scale_openeo.yaml",
    "dodas_types.yml", "htc_type.yml", "cms_htc_type.yml", "spark_type.yml", "jupyter_type.yml", "grafana_type.yml",
    "ml_infn_type.yml", "pip_manager_type.yml",
})  # fmt: skip
_TYPES: Final = pathlib.Path(__file__).with_name("types")
_CONTROL: Final = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)))
_HEADING: Final = re.compile(r"\n(?P<section>\w+):|\n  (?P<name>[\w.-]+):")  # twice as fast as with ^
MAX_IMPORTS: Final = 20
MAX_IMPORT_DEPTH: Final = 5
MAX_IMPORT_NAME: Final = 2048
MAX_IMPORT_BYTES: Final = 4 * 1024 * 1024
_KEPT_SETS: Final = 64
_KEYWORDS: Final = frozenset({"file", "repository", "namespace_prefix", "namespace_uri"})


class ImportedTypes(NamedTuple):
    """The types that a template sees, and the imports that nobody could provide."""

    types: TypeSet
    missing: tuple[str, ...] = ()


class _Definitions(Mapping[str, object]):
    """One section of the bundled files. Each definition is read when it is first asked for.

    Reading all of them takes longer than a whole process may, and a template names a tenth of them at most.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._read: dict[str, object] = {}

    def __getitem__(self, name: str) -> object:
        if name not in self._read:
            self._read[name] = as_map(load(self.texts[name]).value)[name]
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)


@lru_cache(maxsize=1)
def core() -> TypeSet:
    """Return the part of the bundled library that every template sees, whatever it imports."""
    return TypeSet(_definitions(_CORE_FILES))


@lru_cache(maxsize=1)
def bundled() -> TypeSet:
    """Return the whole bundled library, one for each process."""
    return TypeSet(_definitions(_FAMILY_FILES), core())


def _definitions(names: tuple[str, ...]) -> dict[str, _Definitions]:
    sections = {section: _Definitions() for section in SECTIONS}
    for file in names:
        for section, name, text in _cut((_TYPES / file).read_bytes().decode()):
            sections[section].texts[name] = text
    return sections


def _cut(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield section, name and text of each definition of a bundled file, in which only headings stand that far left."""
    headings = list(_HEADING.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    section = ""
    for heading, end in zip(headings, ends, strict=True):
        section = heading["section"] or section
        if heading["name"] and section in SECTIONS:
            yield section, heading["name"], text[heading.start() : end]


def import_types(
    document: Document, resolve: ImportResolver | None, report: Report, *, base: str = ""
) -> ImportedTypes:
    """Return the types of a template's imports; what is wrong with an import goes to the report."""
    closure = _Closure(resolve, report)
    closure.visit(as_map(document.value), base=base, depth=0, path=("imports",))
    below = core() if closure.is_whole else bundled()
    types = _compiled(tuple(closure.digests), closure.texts, below) if closure.texts else below
    return ImportedTypes(types, tuple(closure.missing))


class _Closure:
    """Walks imports depth first; the texts end up in the order in which they must be laid over each other."""

    def __init__(self, resolve: ImportResolver | None, report: Report) -> None:
        self.resolve, self.report = resolve, report
        self.texts: list[Mapping[str, object]] = []
        self.digests: list[str] = []
        self.missing: list[str] = []
        self.is_whole = True
        self._seen: set[str] = set()
        self._bytes = 0

    def visit(self, content: Mapping[str, object], *, base: str, depth: int, path: Path) -> None:
        for name, where, fault in _imports(content):
            place = (*path, *where) if depth == 0 else path
            if fault:
                code, message, hint = fault
                self.report.error(code, place, f"{message} (in {base[:200]!r})" if depth else message, hint)
                continue
            full = joined(base, name) if base else name
            refusal = refusal_of(full)
            if refusal:
                shown = re.sub(r"//[^/?#]*@", "//", full)[:200]
                self.report.error("import-not-allowed", place, f"the import {shown!r} {refusal}")
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
            content = loaded_types(data)
        except TemplateError as error:
            first = error.problems[0]
            message = f"the import {name[:200]!r} cannot be read: {first.message} (line {first.line})"
            self.report.error("import-not-readable", path, message)
            return
        self.visit(content, base=name, depth=depth + 1, path=path)
        self.texts.append(content)
        self.digests.append(_digest(data))

    def _miss(self, name: str, path: Path) -> None:
        self.is_whole = False
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
def _digest(data: bytes) -> str:
    from hashlib import sha256  # noqa: PLC0415 - loads OpenSSL, for which a template without imports need not wait

    return sha256(data).hexdigest()


@lru_cache(maxsize=_KEPT_SETS)
def loaded_types(data: bytes) -> Mapping[str, object]:
    """Return what a text of types says, read once for each content. Raises: TemplateError."""
    return as_map(load(data, max_bytes=MAX_TYPES_BYTES).value)


_sets: OrderedDict[tuple[tuple[str, ...], TypeSet], TypeSet] = OrderedDict()
_sets_lock = Lock()


def _compiled(digests: tuple[str, ...], texts: list[Mapping[str, object]], base: TypeSet) -> TypeSet:
    """Return the shared type set of a closure over a base, by the digests of its texts."""
    key = digests, base
    with _sets_lock:
        known = _sets.get(key)
        if known is None:
            known = _sets[key] = TypeSet(_merged(texts), base)
            if len(_sets) > _KEPT_SETS:
                _sets.popitem(last=False)
        _sets.move_to_end(key)
        return known


def cached_sets() -> int:
    """Return how many type sets of import closures this process keeps."""
    return len(_sets)


def _merged(texts: list[Mapping[str, object]]) -> dict[str, dict[str, object]]:
    merged: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    for text in texts:
        for section in SECTIONS:
            merged[section].update(as_map(text.get(section)))
    return merged


def imports_in(content: Mapping[str, object]) -> Iterator[tuple[str, Path]]:
    """Yield the name of each import in any of the forms in use, with its path under "imports"."""
    return ((name, path) for name, path, _ in _imports(content) if name)


_Fault = tuple[str, str, str]
"""Code, message and hint of what is wrong with an import."""


def _imports(content: Mapping[str, object]) -> Iterator[tuple[str, Path, _Fault | None]]:
    """Yield the name of each import with its path, and with what is wrong with it."""
    imports = content.get("imports")
    entries: Iterable[tuple[object, Path]] = ()
    if isinstance(imports, list):
        entries = (entry for index, item in enumerate(imports) for entry in _entries(item, (index,)))
    elif imports is not None:
        entries = _entries(imports, ())
    for value, path in entries:
        file = value if isinstance(value, str) else as_text(as_map(value).get("file"))
        if file:
            name, fault = _in_repository(content, as_map(value).get("repository"), file)
            yield name, path, fault
        else:
            message = f"an import must be a text or a map with a file, not {kind_of(value)}"
            yield "", path, ("bad-structure", message, "write a name, a URL, or {file: ..., repository: ...}")


def _entries(item: object, path: Path) -> Iterator[tuple[object, Path]]:
    """Yield the imports in a map by their names; whatever else is written is one import."""
    if isinstance(item, dict) and not _KEYWORDS & item.keys():
        for name, value in item.items():
            yield value, (*path, name)
    else:
        yield item, path


def _in_repository(content: Mapping[str, object], repository: object, file: str) -> tuple[str, _Fault | None]:
    """Return the name of a file of a repository, if one is named, and what is wrong with that."""
    if repository is None:
        return file, None
    name = "" if isinstance(repository, dict | list) else source_text(repository)
    found = as_map(content.get("repositories")).get(name)
    url = found if isinstance(found, str) else as_text(as_map(found).get("url"))
    if not url:
        message = f"there is no repository {name[:80]!r} with a url"
        return file, ("unknown-repository", message, "write it under repositories: {name: {url: https://...}}")
    return joined(url if url.endswith("/") else url + "/", file), None


def joined(base: str, name: str) -> str:
    """Return a name relative to a URL or to a path, where it may not begin at the root."""
    if "://" in name or not _CONTROL.isdisjoint(name) or ("://" not in base and name.startswith(("/", "\\"))):
        return name
    try:
        return urljoin(base, name) if "://" in base else normpath(f"{dirname(base)}/{name}" if dirname(base) else name)
    except ValueError:
        return name


def refusal_of(name: str) -> str:
    """Return why an import is refused whatever the resolver says, or nothing."""
    if len(name) > MAX_IMPORT_NAME:
        return f"has a name of more than {MAX_IMPORT_NAME} characters"
    if not _CONTROL.isdisjoint(name):
        return "has control characters in its name"
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
