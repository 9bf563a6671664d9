"""What operators type to pin imports, from local mirrors; and what of it is refused, with nothing changed."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result
from tests.corpus import ABSENT, CORPUS

import indaco_tosca
from indaco_common.errors import Invalid, PolicyRefused, Unavailable
from indaco_common.imports import Folder, PinnedImports
from indaco_common.imports.lock import MAX_TEXT_BYTES
from indaco_common.imports.mirror import Mirror
from indaco_common.launcher.imports_command import imports

HOST = "https://types.example.org"
URL = f"{HOST}/a.yaml"


class Site:
    """A mirror of HOST in one folder, pins in another."""

    def __init__(self, path: Path) -> None:
        self.mirror, self.pins = path / "mirror", path / "pins"
        self.mirror.mkdir()
        self.map = path / "mirror.tsv"
        self.map.write_text(f"{HOST}/\tmirror\n")

    def text(self, name: str, *types: str, parent: str = "tosca.nodes.Compute", imports: tuple[str, ...] = ()) -> None:
        """Write a mirrored text that defines *types* and imports others."""
        lines = ["tosca_definitions_version: tosca_simple_yaml_1_3", f"imports: [{', '.join(imports)}]"]
        defined = [f"  {name}: {{derived_from: {parent}}}" for name in types]
        self.write(name, "\n".join([*lines, "node_types:", *defined]).encode())

    def write(self, name: str, body: bytes) -> None:
        (self.mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (self.mirror / name).write_bytes(body)

    def run(self, *arguments: str) -> Result:
        return CliRunner(env={"INDACO_IMPORTS": str(self.pins)}).invoke(imports, arguments)

    def refresh(self, *urls: str) -> Result:
        return self.run("refresh", "--mirror", str(self.map), *urls)

    def pinned(self) -> dict[str, str]:
        return {url: pin.origin for url, pin in Folder(self.pins).lock().imports.items()}

    def files(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in self.pins.glob("[!.]*")}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in [name for name in os.environ if name.startswith("INDACO_IMPORTS")]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Site(tmp_path)
    structlog.reset_defaults()  # commands set up the logs of their own process
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_url_is_pinned_with_all_that_it_imports_though_they_import_each_other(site):
    site.text("a.yaml", "site.A", imports=("base/b.yaml", f"{HOST}/c.yaml"))
    site.text("base/b.yaml", "site.B", imports=("../a.yaml", "d.yaml"))
    site.text("c.yaml", "site.C")
    site.text("base/d.yaml", "site.D")
    shown = site.refresh(URL)
    assert shown.exit_code == 0
    assert shown.output.endswith("4 read, 4 changed, 4 pinned\n")
    assert site.pinned() == dict.fromkeys(
        [URL, f"{HOST}/base/b.yaml", f"{HOST}/base/d.yaml", f"{HOST}/c.yaml"], "mirror"
    )


def test_a_second_refresh_of_the_same_texts_changes_nothing(site):
    site.text("a.yaml", "site.A")
    site.refresh(URL)
    before = site.files()
    assert site.refresh().output == "1 read, 0 changed, 1 pinned\n"
    assert site.files() == before


def test_what_changed_is_shown_with_hashes_and_types(site):
    site.text("a.yaml", "site.Same", "site.Old")
    site.refresh(URL)
    old = Folder(site.pins).lock().imports[URL].sha256
    site.text("a.yaml", "site.Same", "site.New")
    shown = site.refresh().output
    new = Folder(site.pins).lock().imports[URL].sha256
    assert f"{old[:12]} -> {new[:12]}" in shown
    assert [line.strip() for line in shown.splitlines() if line.strip()[0] in "+-~"] == ["+ site.New", "- site.Old"]
    site.text("a.yaml", "site.Same", "site.New", parent="tosca.nodes.Root")
    assert "  ~ site.New\n  ~ site.Same\n" in site.refresh().output


def test_a_refresh_mends_a_text_that_was_changed_on_disk(site):
    site.text("a.yaml", "site.A")
    site.refresh(URL)
    digest = Folder(site.pins).lock().imports[URL].sha256
    (site.pins / f"{digest}.yaml").write_text("changed: true")
    broken = site.run("verify")
    assert broken.exit_code == 1
    assert all(part in broken.output for part in (URL, digest, "1 of 1 cannot be used"))
    assert site.refresh().exit_code == 0
    assert site.run("verify").output == "1 texts are as they were pinned\n"


def test_a_text_that_is_lost_and_has_changed_is_mended_too(site):
    site.text("a.yaml", "site.A")
    site.refresh(URL)
    (site.pins / f"{Folder(site.pins).lock().imports[URL].sha256}.yaml").unlink()
    site.text("a.yaml", "site.B")
    assert "+ site.B" in site.refresh().output
    assert site.run("verify").exit_code == 0


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "not a TOSCA document"),
        (b"a: [", "b.yaml, line"),
        (b"\xff\xfe", "UTF-8"),
        (b"#" * (MAX_TEXT_BYTES + 1), "more than"),
        (b"tosca_definitions_version: x\na: &a [*a]", "refers to itself"),
        (b"tosca_definitions_version: x\nimports: ['http://169.254.169.254/x']", "private or numeric host"),
        (b"tosca_definitions_version: x\nimports: ['file:///etc/passwd']", "scheme"),
        (b"tosca_definitions_version: x\nimports: ['https://ada:s3cret@example.org/x.yaml']", "credentials"),
        (b"tosca_definitions_version: x\nimports: ['https://elsewhere.example.org/x.yaml']", "not in the mirror map"),
        (b"tosca_definitions_version: x\nimports: [missing.yaml]", "No such file"),
        (
            b"tosca_definitions_version: x\nimports: [" + b",".join(b"n%d.yaml" % n for n in range(30)) + b"]",
            "20 imports",
        ),
    ],
)
def test_a_refresh_that_fails_on_any_text_changes_nothing(body, why, site):
    for number in range(30):
        site.text(f"n{number}.yaml")
    site.text("a.yaml", "site.A")
    site.refresh(URL)
    before = site.files()
    site.text("a.yaml", "site.New", imports=("b.yaml",))
    site.write("b.yaml", body)
    failed = site.refresh()
    assert failed.exit_code == 1
    assert why in failed.output
    assert "s3cret" not in failed.output
    assert site.files() == before


def test_a_chain_of_imports_that_no_template_could_use_is_refused(site):
    for number in range(9):
        site.text(f"n{number}.yaml", imports=(f"n{number + 1}.yaml",))
    site.text("n9.yaml")
    assert "levels deep" in site.refresh(f"{HOST}/n0.yaml").output
    assert site.refresh(f"{HOST}/n6.yaml").exit_code == 0


def test_for_a_known_file_elsewhere_the_bundled_types_stand_but_not_for_one_that_was_named(site):
    known = "https://raw.githubusercontent.com/indigo-dc/tosca-types/master/custom_types.yaml"
    site.text("a.yaml", "site.A", imports=(known,))
    shown = site.refresh(URL)
    assert (shown.exit_code, site.pinned()) == (0, {URL: "mirror"})
    assert f"{known}\n  not fetched: the bundled types" in shown.output
    assert "not in the mirror map" in site.refresh(known).output


def test_what_was_added_by_hand_stays_until_it_is_named(site, tmp_path):
    site.text("a.yaml", imports=("b.yaml",))
    site.text("b.yaml", "site.FromMirror")
    own = tmp_path / "own.yaml"
    own.write_text(
        "tosca_definitions_version: tosca_simple_yaml_1_3\nnode_types: {site.Own: {derived_from: tosca.nodes.Root}}"
    )
    assert "+ site.Own" in site.run("add", str(own), f"{HOST}/b.yaml").output
    site.refresh(URL)
    assert site.pinned() == {f"{HOST}/b.yaml": "file", URL: "mirror"}
    site.refresh(f"{HOST}/b.yaml")
    assert site.pinned() == {f"{HOST}/b.yaml": "mirror", URL: "mirror"}


def test_a_text_that_came_from_a_mirror_is_kept_from_refreshes_by_adding_it_as_it_is(site):
    site.text("a.yaml", "site.A")
    site.refresh(URL)
    assert site.run("add", str(site.mirror / "a.yaml"), URL).exit_code == 0
    assert site.pinned() == {URL: "file"}


def test_adding_a_text_warns_of_imports_that_are_not_pinned_and_so_does_verify(site, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("tosca_definitions_version: tosca_simple_yaml_1_3\nimports: [other.yaml]")
    for shown in (site.run("add", str(own), URL), site.run("verify")):
        assert shown.exit_code == 0
        assert f"warning: the import '{HOST}/other.yaml' is not available" in shown.output


@pytest.mark.parametrize(("url", "why"), [("https://127.0.0.1/a.yaml", "private"), ("/etc/types.yaml", "outside")])
def test_a_url_that_no_template_may_import_cannot_be_pinned(url, why, site):
    site.text("a.yaml")
    failed = site.run("add", str(site.mirror / "a.yaml"), url)
    assert (failed.exit_code, why in failed.output, site.pins.exists()) == (1, True, False)


def test_the_list_says_what_is_pinned(site):
    site.text("a.yaml")
    site.refresh(URL)
    digest = Folder(site.pins).lock().imports[URL].sha256
    (line,) = site.run("list").output.splitlines()
    assert line.split()[0] == digest[:12]
    assert line.split()[-2:] == ["mirror", URL]


def test_without_a_url_and_without_pins_there_is_nothing_to_refresh(site):
    shown = site.refresh()
    assert (shown.exit_code, "name a URL" in shown.output) == (2, True)


@pytest.mark.parametrize(
    ("allow", "url", "why"),
    [
        ("localhost/", "https://localhost/a.yaml", "private or numeric host"),
        ("types.example.org/", "https://127.0.0.1/a.yaml", "private or numeric host"),
        ("types.example.org/", "https://other.example.org/a.yaml", "allow-list"),
        ("types.example.org/", "http://types.example.org/a.yaml", "allow-list"),
        ("?", "https://types.example.org/a.yaml", "host/path/"),
    ],
)
def test_a_live_refresh_is_refused_before_anything_is_looked_up(allow, url, why, site):
    failed = CliRunner(env={"INDACO_IMPORTS": str(site.pins), "INDACO_IMPORTS_ALLOW": allow}).invoke(
        imports, ["refresh", url]
    )
    assert (failed.exit_code, failed.output.startswith("Error: "), why in failed.output) == (1, True, True)
    assert site.files() == {}


def test_a_command_beside_another_is_refused(site):
    site.text("a.yaml")
    with Folder(site.pins).written():
        failed = site.refresh(URL)
    assert (failed.exit_code, "another command" in failed.output) == (1, True)


# ── the mirror map ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_longest_prefix_counts_and_a_line_without_a_slash_is_one_url(tmp_path):
    for name in ("all/x.yaml", "all/new/x.yaml", "new/x.yaml", "one.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    lines = [
        "import_url\tlocal_path\tnote",
        "# comment",
        "",
        f"{HOST}/\tall",
        f"{HOST}/new/\tnew\tnote",
        f"{HOST}/new/one\tone.yaml",
    ]
    (tmp_path / "map.tsv").write_text("\n".join(lines))
    mirror = Mirror.read(tmp_path / "map.tsv")
    asked = ("x.yaml", "new/x.yaml", "new/one")
    assert [await mirror.text(f"{HOST}/{name}") for name in asked] == [b"all/x.yaml", b"new/x.yaml", b"one.yaml"]
    with pytest.raises(Unavailable):
        await mirror.text(f"{HOST}/new/one/x.yaml")


@pytest.mark.parametrize(
    "path", ["../secret", "%2e%2e/secret", "..%2fsecret", "link", "%2Fetc%2Fhostname", "folder/../../secret", "a%00"]
)
async def test_a_url_cannot_point_out_of_the_folder_of_its_prefix(path, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "map.tsv").write_text(f"{HOST}/\tmirror\n")
    with pytest.raises(PolicyRefused, match="points out of"):
        await Mirror.read(tmp_path / "map.tsv").text(f"{HOST}/{path}")


@pytest.mark.parametrize("line", ["types.example.org/\tmirror", f"{HOST}/", f"{HOST}/\t", f"{HOST}/ mirror"])
def test_a_line_of_the_map_that_cannot_be_read_is_told_by_its_number(line, tmp_path):
    (tmp_path / "map.tsv").write_text(f"# mirrors\n{line}\n")
    with pytest.raises(Invalid, match="line 2"):
        Mirror.read(tmp_path / "map.tsv")


@pytest.mark.skipif(not CORPUS.is_dir(), reason=ABSENT)
def test_the_types_of_the_public_templates_can_be_pinned_from_their_map(site):
    urls = [line.split("\t")[0] for line in (CORPUS / "IMPORTS.tsv").read_text().splitlines()[1:]]
    infn = [url for url in urls if "/infn-cloud/tosca-types/raw/v3.4.0/" in url]
    shown = site.run("refresh", "--mirror", str(CORPUS / "IMPORTS.tsv"), *infn)
    assert shown.exit_code == 0, shown.output
    assert site.run("verify").exit_code == 0
    text = f"{{tosca_definitions_version: tosca_simple_yaml_1_3, imports: {infn}, topology_template: {{}}}}"
    closure = PinnedImports(site.pins).closure()
    types = indaco_tosca.parse(text, resolve=closure).types
    assert types.is_a("node_types", "tosca.nodes.indigo.DockerCompose", "tosca.nodes.Root")
    assert set(infn) <= closure.digests.keys()
