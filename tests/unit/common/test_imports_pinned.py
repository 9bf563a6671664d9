"""What services read: pinned texts by hash, the same ones for as long as a deployment lives."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

import indaco_tosca
from indaco_common.errors import Conflict, Invalid, Unavailable
from indaco_common.imports import Folder, Lock, Pin, PinnedImports
from indaco_common.imports.lock import MAX_LOCK_BYTES, MAX_PINS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
URL = "https://types.example.org/site.yaml"
BASE = "https://types.example.org/base.yaml"


def types(parent: str, *imports: str) -> bytes:
    """A text that derives site.Machine from *parent*."""
    lines = ["tosca_definitions_version: tosca_simple_yaml_1_3", f"imports: [{', '.join(imports)}]"]
    return "\n".join([*lines, "node_types:", "  site.Machine:", f"    derived_from: {parent}", ""]).encode()


COMPUTE, VOLUME = types("tosca.nodes.Compute"), types("tosca.nodes.BlockStorage")


def keep(path: Path, **texts: bytes) -> Folder:
    """Pin *texts*: "site" for URL, "base" for BASE."""
    folder = Folder(path)
    urls = {{"site": URL, "base": BASE}[name]: text for name, text in texts.items()}
    with folder.written() as lock:
        pins = {url: Pin.of(text, origin="file", now=NOON) for url, text in urls.items()}
        folder.put(Lock(imports=lock.imports | pins), urls.values())
    return folder


def lineage(resolve) -> tuple[str, ...]:
    text = f"{{tosca_definitions_version: tosca_simple_yaml_1_3, imports: ['{URL}'], topology_template: {{}}}}"
    return indaco_tosca.parse(text, resolve=resolve).types.node("site.Machine").lineage


def digest(text: bytes) -> str:
    return sha256(text).hexdigest()


def test_a_pinned_text_is_given_and_remembered_and_an_unknown_url_is_neither(tmp_path):
    keep(tmp_path, site=COMPUTE)
    closure = PinnedImports(tmp_path).closure()
    assert lineage(closure)[1] == "tosca.nodes.Compute"
    assert closure(BASE) is None
    assert closure.digests == {URL: digest(COMPUTE)}


def test_the_digests_are_those_of_the_whole_closure_without_what_was_not_asked_for(tmp_path):
    site = types("tosca.nodes.Compute", "base.yaml")
    keep(tmp_path, site=site, base=VOLUME)
    closure, unused = PinnedImports(tmp_path).closure(), PinnedImports(tmp_path).closure()
    lineage(closure)
    assert closure.digests == {URL: digest(site), BASE: digest(VOLUME)}
    assert unused.digests == {}


def test_a_text_that_was_changed_is_refused_with_its_url_and_both_hashes(tmp_path):
    keep(tmp_path, site=COMPUTE)
    (tmp_path / f"{digest(COMPUTE)}.yaml").write_bytes(VOLUME)
    with pytest.raises(Unavailable) as refused:
        lineage(PinnedImports(tmp_path).closure())
    assert all(part in refused.value.detail for part in (URL, digest(COMPUTE), digest(VOLUME)))
    assert str(tmp_path) not in refused.value.detail  # users see it


def test_a_text_that_is_gone_is_told_by_its_url(tmp_path):
    keep(tmp_path, site=COMPUTE)
    (tmp_path / f"{digest(COMPUTE)}.yaml").unlink()
    with pytest.raises(Unavailable, match=URL):
        PinnedImports(tmp_path).closure()(URL)


def test_a_template_sees_one_state_of_the_lock_and_the_next_one_the_new_state(tmp_path):
    keep(tmp_path, site=COMPUTE)
    pinned = PinnedImports(tmp_path)
    begun = pinned.closure()
    keep(tmp_path, site=VOLUME)
    assert lineage(begun)[1] == "tosca.nodes.Compute"
    assert lineage(pinned.closure())[1] == "tosca.nodes.BlockStorage"


def test_what_was_planned_before_a_refresh_can_be_planned_with_the_same_types_after_it(tmp_path):
    keep(tmp_path, site=COMPUTE)
    gateway = PinnedImports(tmp_path).closure()
    asked_for = lineage(gateway)
    keep(tmp_path, site=VOLUME)
    orchestrator = PinnedImports(tmp_path)
    texts = {url: orchestrator.text(url, digest) for url, digest in gateway.digests.items()}
    assert lineage(texts.get) == asked_for


def test_the_same_text_is_the_same_object_so_that_its_types_are_shared(tmp_path):
    keep(tmp_path, site=COMPUTE)
    pinned = PinnedImports(tmp_path)
    assert pinned.closure()(URL) is pinned.closure()(URL)


def test_without_a_folder_only_the_bundled_types_are_there(tmp_path):
    pinned = PinnedImports(None)
    assert pinned.closure() is None
    with pytest.raises(Unavailable, match="INDACO_IMPORTS"):
        pinned.text(URL, digest(COMPUTE))


def test_a_folder_that_was_named_and_has_no_lock_is_not_taken_for_an_empty_one(tmp_path):
    with pytest.raises(Unavailable, match=r"imports\.lock"):
        PinnedImports(tmp_path).closure()


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "EOF"),
        (b"[]", "object"),
        (b'{"version": 2}', "/version"),
        (b'{"imports": {"u": {"sha256": "../../etc/passwd"}}}', "/imports/u/sha256"),
        (b'{"extra": 1}', "/extra"),
        (b" " * (MAX_LOCK_BYTES + 1), "more than"),
    ],
)
def test_a_lock_that_cannot_be_read_is_refused_with_the_place(body, where, tmp_path):
    (tmp_path / "imports.lock").write_bytes(body)
    with pytest.raises(Invalid, match=where):
        PinnedImports(tmp_path).closure()


def test_a_lock_reads_as_it_was_written_in_the_order_of_urls():
    pin = Pin.of(COMPUTE, origin="https", now=NOON)
    lock = Lock(imports={URL: pin, BASE: pin})
    assert Lock.read(lock.render()) == lock
    assert lock.render() == Lock(imports={BASE: pin, URL: pin}).render()


def test_the_largest_lock_can_be_read_again():
    pin = Pin.of(COMPUTE, origin="https", now=NOON)
    lock = Lock(imports={f"https://h/{n}".ljust(2048, "/"): pin for n in range(MAX_PINS)})
    assert Lock.read(lock.render()) == lock


def test_two_writers_are_one_too_many(tmp_path):
    folder = keep(tmp_path, site=COMPUTE)
    with folder.written(), pytest.raises(Conflict, match="another command"), Folder(tmp_path).written():
        pass
    with folder.written():
        pass


def test_services_of_another_user_can_read_what_was_written(tmp_path):
    keep(tmp_path, site=COMPUTE)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.glob("[!.]*")} == {0o644}


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be written"), Folder(tmp_path / "file" / "below").written():
        pass


DIES = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_imports_pinned import VOLUME, keep, types
left = int(sys.argv[2])
rename = Path.replace
def replace(self, target):
    global left
    if left == 0:
        os._exit(9)
    left -= 1
    return rename(self, target)
Path.replace = replace
keep(Path(sys.argv[1]), site=types("tosca.nodes.Compute", "base.yaml"), base=VOLUME)
"""


@pytest.mark.parametrize(("renamed", "expected"), [(0, "old"), (1, "old"), (2, "old"), (3, "new")])
def test_a_writer_that_dies_leaves_the_old_state_or_the_new_one(renamed, expected, tmp_path):
    keep(tmp_path, site=COMPUTE)
    arguments = [sys.executable, "-c", DIES, str(tmp_path), str(renamed), str(Path(__file__).parent)]
    ended = subprocess.run(arguments, check=False, timeout=60, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    assert ended.returncode == (9 if expected == "old" else 0)
    closure = PinnedImports(tmp_path).closure()
    lineage(closure)
    assert len(closure.digests) == {"old": 1, "new": 2}[expected]
    keep(tmp_path, site=VOLUME)
    assert not list(tmp_path.glob(".new-*"))
