"""Where the catalogue comes from: folders that change while they are read, and real git repositories."""

import asyncio
import os
from pathlib import Path

import pytest

from indaco_common.errors import Invalid, Unavailable
from indaco_gateway.catalogue import git as git_source
from indaco_gateway.catalogue import sources
from indaco_gateway.catalogue.git import GitRepository
from indaco_gateway.catalogue.sources import Folder, Snapshot, source_of
from indaco_tosca import TemplateError

from .catalogue_files import commit, git, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "cards"
    write(root)
    return root


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A git repository with a catalogue in a folder of it."""
    root = tmp_path / "origin"
    root.mkdir()
    git(root, "init", "--quiet")
    write(root / "services")
    commit(root)
    return root


def address(origin: Path, query: str = "?folder=services") -> str:
    return f"git+file://{origin}{query}"


async def read(setting: str, data: Path, known: str = "") -> Snapshot:
    source = source_of(setting, data)
    assert source
    found = await source.read(known)
    assert found
    return found


# ── folders


async def test_a_folder_is_read_with_what_belongs_to_cards_and_no_links(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret.yaml"
    outside.write_text("password")
    (folder / "machine" / "secret.yaml").symlink_to(outside)
    (folder / "elsewhere").symlink_to(tmp_path)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "card.yaml").write_text("x")
    (folder / "README.md").write_text("x")
    os.mkfifo(folder / "machine" / "pipe.yaml")
    found = await read(str(folder), tmp_path)
    names = ["card.yaml", "guide.md", "1.0.0/template.yaml", "1.0.0/test.yaml"]
    assert sorted(found.files) == sorted(f"machine/{name}" for name in names)


async def test_a_folder_that_has_not_changed_is_not_read_again(folder: Path) -> None:
    source = Folder(folder)
    first = await source.read("")
    assert first
    assert await source.read(first.revision) is None
    (folder / "machine" / "guide.md").write_text("other words")
    second = await source.read(first.revision)
    assert second
    assert second.files["machine/guide.md"] == b"other words"


async def test_a_link_to_a_folder_may_be_exchanged_for_another(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "next", "other")
    link = tmp_path / "current"
    link.symlink_to(folder)
    first = await read(str(link), tmp_path)
    link.unlink()
    link.symlink_to(tmp_path / "next")
    second = await read(str(link), tmp_path, first.revision)
    assert {path.partition("/")[0] for path in second.files} == {"other"}


async def test_files_that_change_while_they_are_read_are_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two files have the same text at all times; a snapshot with two texts would be of no time."""
    pair = [folder / "machine" / name for name in ("a.md", "z.md")]
    for file in pair:
        file.write_text("before")
    read_one, changes = sources._content, iter([True])

    def read_and_change(path: Path) -> bytes:
        content = read_one(path)
        if path == pair[0] and next(changes, False):
            for file in pair:
                file.write_text("after!")  # as long as the word before: times tell
        return content

    monkeypatch.setattr(sources, "_content", read_and_change)
    snapshot = await Folder(folder).read("")
    assert snapshot
    assert {snapshot.files[f"machine/{file.name}"] for file in pair} == {b"after!"}


async def test_a_file_that_goes_away_while_the_folder_is_read_is_not_missed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_one = sources._content

    def remove_the_guide(path: Path) -> bytes:
        (folder / "machine" / "guide.md").unlink(missing_ok=True)
        return read_one(path)

    monkeypatch.setattr(sources, "_content", remove_the_guide)
    snapshot = await Folder(folder).read("")
    assert snapshot
    assert "machine/guide.md" not in snapshot.files
    assert len(snapshot.files) == 3


async def test_a_folder_that_never_rests_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PAUSE_S", 0)
    read_one, count = sources._content, iter(range(10_000))

    def read_and_change(path: Path) -> bytes:
        (folder / "machine" / f"{next(count)}.md").write_text("")
        return read_one(path)

    monkeypatch.setattr(sources, "_content", read_and_change)
    with pytest.raises(Unavailable, match="changes while it is read"):
        await Folder(folder).read("")


async def test_a_folder_that_is_not_there_or_is_too_large_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is not there"):
        await read(str(tmp_path / "nowhere"), tmp_path)
    with (folder / "machine" / "guide.md").open("wb") as file:
        file.truncate(40 * 1024 * 1024)
    with pytest.raises(TemplateError, match="bytes, 33554432 are allowed"):
        await read(str(folder), tmp_path)


# ── git


async def test_a_folder_of_a_repository_is_read_at_its_commit(origin: Path, tmp_path: Path) -> None:
    first = await read(address(origin), tmp_path)
    assert first.revision == git(origin, "rev-parse", "HEAD")
    write(origin / "services", "other")
    (origin / "services" / "link").symlink_to("machine")
    (origin / "services" / "machine" / "link.yaml").symlink_to("card.yaml")
    source = source_of(address(origin), tmp_path)
    assert source
    assert await source.read(first.revision) is None
    new = commit(origin)
    second = await source.read(first.revision)
    assert second
    assert second.revision == new
    assert {path.partition("/")[0] for path in second.files} == {"machine", "other"}
    assert "machine/link.yaml" not in second.files
    assert second.files["machine/guide.md"] == b"# machine\n"


@pytest.mark.parametrize("ref", ["main", "v1", "refs/heads/topic/x", "commit"])
async def test_a_branch_a_tag_or_a_commit_is_followed(origin: Path, tmp_path: Path, ref: str) -> None:
    git(origin, "branch", "topic/x")
    git(origin, "tag", "v1")
    old = git(origin, "rev-parse", "HEAD")
    write(origin / "services", "other")
    new = commit(origin)
    asked = old if ref == "commit" else ref
    found = await read(address(origin, f"?folder=services&ref={asked}"), tmp_path)
    assert found.revision == (new if ref == "main" else old)


async def test_no_history_is_fetched_and_a_rewritten_branch_is_followed(origin: Path, tmp_path: Path) -> None:
    commit(origin, "second")
    await read(address(origin), tmp_path)
    (clone,) = (tmp_path / "catalogue").iterdir()
    assert git(clone, "rev-list", "--all", "--count") == "1"
    git(origin, "checkout", "--quiet", "--orphan", "fresh")
    rewritten = commit(origin)
    git(origin, "branch", "--force", "main")
    git(origin, "checkout", "--quiet", "main")
    assert (await read(address(origin), tmp_path)).revision == rewritten


async def test_what_was_fetched_last_is_there_after_a_restart_without_the_server(origin: Path, tmp_path: Path) -> None:
    first = await read(address(origin), tmp_path)
    origin.rename(tmp_path / "away")
    assert await read(address(origin), tmp_path) == first
    again = source_of(address(origin), tmp_path)
    assert again
    assert await again.read("") == first
    with pytest.raises(Unavailable, match=r"git fetch of file://.* failed: "):
        await again.read("")  # but it is told
    with pytest.raises(Unavailable):
        await read(address(origin), tmp_path / "elsewhere")


async def test_a_folder_or_a_branch_that_is_not_there_is_told(origin: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="git ls-tree of"):
        await read(address(origin, "?folder=nowhere"), tmp_path)
    with pytest.raises(Unavailable, match="couldn't find remote ref nowhere"):
        await read(address(origin, "?ref=nowhere"), tmp_path)


async def test_names_and_contents_of_any_kind_survive(origin: Path, tmp_path: Path) -> None:
    odd = {"ü b.md": b"\0\n\n\xff", "empty.md": b"", 'quote"\n.md': b"blob 3\n"}
    for name, content in odd.items():
        (origin / "services" / "machine" / name).write_bytes(content)
    commit(origin)
    found = (await read(address(origin), tmp_path)).files
    assert {name: found[f"machine/{name}"] for name in odd} == odd


async def test_git_does_not_see_our_secrets_and_asks_nobody(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nenv > {tmp_path}/seen\nexec /usr/bin/env -u LC_ALL {_real_git()} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("INDACO_VAULT_TOKEN", "hush")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    await read(address(origin), tmp_path)
    seen = (tmp_path / "seen").read_text().splitlines()
    assert not [line for line in seen if "hush" in line or line.startswith("GIT_DIR")]
    assert {"GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=file"} <= set(seen)


def _real_git() -> str:
    folders = os.environ["PATH"].split(":")
    return next(path for folder in folders if (path := f"{folder}/git") and os.access(path, os.X_OK))


async def test_a_server_that_says_nothing_is_left_after_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_source, "TIME_LIMIT_S", 1.0)
    held = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(Unavailable, match=r"git fetch of http://127.0.0.1:\d+/x.git took more than 1 s"):
            await GitRepository(f"http://127.0.0.1:{port}/x.git", "HEAD", tmp_path / "clone").fetch()
        assert not await asyncio.to_thread(_processes, f"127.0.0.1:{port}")
    finally:
        held.set()
        server.close()
        await server.wait_closed()


def _processes(text: str) -> list[str]:
    """Return the command lines of running processes that contain *text*."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if text in line]


@pytest.mark.parametrize(
    "setting",
    [
        "git+https://ada:hush@example.org/x", "git+https://token@example.org/x", "git+ext::sh -c id", "git+ftp://example.org/x", "git+https://example.org",
        "git+https://example.org/x?ref=-upload-pack", "git+https://example.org/x?ref=a..b", "git+https://example.org/x?ref=", "git+/srv/x",
        "git+https://example.org/x?branch=main", "git+https://example.org/x?folder=../..", "git+https://example.org/x?folder=-r", "git+https://example.org/x#main",
    ],
)  # fmt: skip
def test_an_address_that_is_none_or_has_a_credential_is_refused_without_repeating_it(
    setting: str, tmp_path: Path
) -> None:
    with pytest.raises(Invalid) as refused:
        source_of(setting, tmp_path)
    assert "hush" not in refused.value.detail
    assert "token@" not in refused.value.detail


def test_an_address_says_where_the_catalogue_is(tmp_path: Path) -> None:
    folder, repository = (
        source_of(setting, tmp_path)
        for setting in ("/srv/cards", "git+ssh://git@example.org/x.git?ref=v1&folder=/a/b/")
    )
    assert folder
    assert repository
    assert folder.address == "/srv/cards"
    assert repository.address == "ssh://git@example.org/x.git at v1, a/b"


async def test_the_catalogue_that_comes_with_us_is_read_unless_none_is_wanted(tmp_path: Path) -> None:
    source = source_of("", tmp_path)
    assert source
    snapshot = await source.read("")
    assert snapshot
    assert "virtual-machine/card.yaml" in snapshot.files
    assert source_of("none", tmp_path) is None
