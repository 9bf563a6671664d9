"""The catalogue over HTTP: who sees what, versions, forms, entity tags, reloading, and what stays when something is broken."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.gateway.world import Issuer

from indaco_common.clock import SystemClock
from indaco_common.errors import Invalid, NotFound, Unavailable
from indaco_common.testing.federation import MemoryKeys
from indaco_gateway.catalogue.served import ServiceCatalogue
from indaco_gateway.catalogue.sources import Folder, Snapshot, source_of

from .catalogue_files import TEMPLATE, commit, git, write
from .catalogue_gateway import Gateway, no_imports, serving

ALL = frozenset({"cms"})


@pytest.fixture(scope="module")
def keys() -> MemoryKeys:
    return MemoryKeys()


@pytest.fixture
async def issuer(keys: MemoryKeys) -> AsyncIterator[Issuer]:
    issuer = Issuer(keys)
    await issuer.start()
    yield issuer
    await issuer.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three cards: for everybody (two versions), for cms, and for those below atlas."""
    root = tmp_path / "cards"
    write(root, versions=("1.2.0", "1.10.0"), card="order: 1\ntags: [vm]")
    write(root, "batch", card="groups: [cms]")
    write(root, "notebooks", card="groups: ['atlas/*']")
    return root


@pytest.fixture
async def gateway(folder: Path, tmp_path: Path, issuer: Issuer) -> AsyncIterator[Gateway]:
    async with serving(folder, tmp_path, issuer) as gateway:
        yield gateway


# ── who sees what


@pytest.mark.parametrize(
    ("groups", "seen"),
    [
        ((), "machine"), (("cms",), "machine batch"), (("cms/analysis",), "machine"), (("atlas",), "machine"), (("atlas/top",), "machine notebooks"),
        (("atlas/top", "cms"), "machine batch notebooks"),
    ],
)  # fmt: skip
async def test_everybody_sees_the_cards_for_their_groups(gateway: Gateway, groups: tuple[str, ...], seen: str) -> None:
    assert await gateway.names(*groups) == seen.split()
    for name in ("machine", "batch", "notebooks"):
        for path in ("", "/1.0.0" if name != "machine" else "/1.2.0", "/latest", "/latest/form"):
            answer = await gateway.get(f"/v1/catalogue/{name}{path}", *groups)
            assert answer.status == (200 if name in seen.split() else 404), (name, path)


async def test_one_group_at_a_time_can_be_asked_for_if_it_is_ones_own(gateway: Gateway) -> None:
    assert await gateway.names("cms", "atlas/top", query="?group=cms") == ["machine", "batch"]
    assert await gateway.names("cms", "atlas/top", query="?group=/atlas/top") == ["machine", "notebooks"]
    assert (await gateway.get("/v1/catalogue?group=atlas/top", "cms")).status == 403


async def test_nothing_is_shown_without_a_token(gateway: Gateway) -> None:
    paths = ("", "/machine", "/machine/latest", "/machine/latest/form", "/status", "/nothing")
    assert {(await gateway.get(f"/v1/catalogue{path}", token=False)).status for path in paths} == {401}
    assert (await gateway.send("POST", "/v1/catalogue/reload", token=False)).status == 401


async def test_what_is_not_there_and_what_is_for_others_look_the_same(gateway: Gateway) -> None:
    hidden, absent = await gateway.get("/v1/catalogue/batch", "atlas"), await gateway.get("/v1/catalogue/none", "atlas")
    assert (hidden.status, absent.status) == (404, 404)
    assert hidden.json["detail"] == "There is no service 'batch' in the catalogue"
    assert absent.json["detail"] == "There is no service 'none' in the catalogue"
    assert hidden.headers["Content-Type"] == "application/problem+json"


# ── what is shown


async def test_a_card_has_its_guide_and_its_versions_newest_first(gateway: Gateway) -> None:
    card = (await gateway.get("/v1/catalogue/machine")).json
    assert (card["title"], card["tags"], card["version"], card["guide"]) == (
        "The machine",
        ["vm"],
        "1.10.0",
        "# machine\n",
    )
    assert [version["version"] for version in card["versions"]] == ["1.10.0", "1.2.0"]
    (listed,) = (await gateway.get("/v1/catalogue")).json["content"]
    assert listed.items() <= card.items()
    assert "guide" not in listed


async def test_a_version_has_its_template_and_its_tests(gateway: Gateway) -> None:
    newest, old = [(await gateway.get(f"/v1/catalogue/machine/{version}")).json for version in ("latest", "1.2.0")]
    assert (newest["version"], newest["template"]) == ("1.10.0", TEMPLATE + "# 1.10.0\n")
    assert old["template"] == TEMPLATE + "# 1.2.0\n"
    assert old["tests"] == [{"name": "two", "inputs": {}, "expect": {"nodes": {"server": {"cpus": 2}}}}]
    answer = await gateway.get("/v1/catalogue/machine/3.0.0")
    assert (answer.status, answer.json["detail"]) == (
        404,
        "There is no version 3.0.0 of machine, but 1.10.0, 1.2.0",
    )


async def test_a_form_is_made_of_the_inputs(gateway: Gateway) -> None:
    form = (await gateway.get("/v1/catalogue/machine/latest/form")).json
    assert (form["name"], form["version"]) == ("machine", "1.10.0")
    cpus = form["schema"]["properties"]["cpus"]
    assert (cpus["type"], cpus["default"], cpus["minimum"], cpus["maximum"]) == ("integer", 2, 1, 8)
    assert form["ui"]["order"] == ["cpus"]


async def test_a_form_heeds_the_parameters_of_its_version_and_the_groups_of_whoever_asks(
    gateway: Gateway, folder: Path
) -> None:
    text = "inputs: {cpus: {type: text, group_overrides: {cms: {default: 4}, atlas: {default: 6}}}}"
    (folder / "machine" / "1.10.0" / "parameters.yaml").write_text(text)
    await gateway.catalogue.reload()

    async def default(version: str, *groups: str, query: str = "") -> int:
        form = (await gateway.get(f"/v1/catalogue/machine/{version}/form{query}", *groups)).json
        return int(form["schema"]["properties"]["cpus"]["default"])

    assert [await default("1.10.0", group) for group in ("cms", "atlas", "lhcb")] == [4, 6, 2]
    assert await default("1.10.0", "cms", "atlas", query="?group=cms") == 4
    assert await default("1.2.0", "cms") == 2


async def test_what_is_known_already_is_not_sent_again_until_it_changes(gateway: Gateway, folder: Path) -> None:
    for path in ("", "/machine", "/machine/latest", "/machine/latest/form"):
        first = await gateway.get(f"/v1/catalogue{path}")
        tag = first.headers["ETag"]
        assert first.headers["Cache-Control"] == "private, no-cache"
        for known in (tag, f'"x", W/{tag}', "*"):
            again = await gateway.get(f"/v1/catalogue{path}", headers={"If-None-Match": known})
            assert (again.status, again.text, again.headers["ETag"]) == (304, "", tag)
        assert (await gateway.get(f"/v1/catalogue{path}", headers={"If-None-Match": '"x"'})).status == 200
    before = (await gateway.get("/v1/catalogue/batch", "cms")).headers
    write(folder, "batch", card="groups: [cms]\ntags: [new]")
    await gateway.catalogue.reload()
    after = await gateway.get("/v1/catalogue/batch", "cms", headers={"If-None-Match": before["ETag"]})
    assert (after.status, after.json["tags"]) == (200, ["new"])
    hidden = await gateway.get("/v1/catalogue/batch", "atlas", headers={"If-None-Match": after.headers["ETag"]})
    assert hidden.status == 404


# ── operators


async def test_only_operators_reload_and_see_how_it_stands(gateway: Gateway, folder: Path) -> None:
    assert (await gateway.get("/v1/catalogue/status", "cms")).status == 403
    assert (await gateway.send("POST", "/v1/catalogue/reload", "cms")).status == 403
    write(folder, "fresh")
    write(folder, "batch", card="tagz: [a]")
    status = (await gateway.send("POST", "/v1/catalogue/reload", "indaco-admins")).json
    assert status == (await gateway.get("/v1/catalogue/status", "indaco-admins")).json
    assert (status["source"], status["error"], len(status["revision"])) == (str(folder), "", 64)
    assert status["loaded_at"].endswith("Z")
    cards = {card["name"]: card for card in status["cards"]}
    assert sorted(cards) == ["batch", "fresh", "machine", "notebooks"]
    assert cards["batch"] == {"name": "batch", "versions": ["1.0.0"], "groups": ["cms"], "is_last_good": True}
    assert not cards["machine"]["is_last_good"]
    (problem,) = status["problems"]
    assert (problem["file"], problem["line"], problem["code"]) == ("batch/card.yaml", 3, "unknown-key")
    assert problem["hint"].startswith("known are: description")


async def test_of_a_card_that_became_bad_the_last_good_state_is_served(gateway: Gateway, folder: Path) -> None:
    write(folder, "batch", card="groups: [cms]\ntags: [x]", template="not a template: 1")
    write(folder, "notebooks", card="groups: []", test="cases: [{name: n, expect: {nodes: {server: {cpus: 9}}}}]")
    write(folder, card="tags: [newer]", versions=("1.10.0",))
    await gateway.catalogue.reload()
    assert await gateway.names("cms") == ["batch", "machine"]
    batch = (await gateway.get("/v1/catalogue/batch/latest", "cms")).json
    assert batch["template"] == TEMPLATE + "# 1.0.0\n"
    assert (await gateway.get("/v1/catalogue/machine")).json["tags"] == ["newer"]
    files = {problem.file for problem in gateway.catalogue.state.catalogue.problems}
    assert files == {"batch/1.0.0/template.yaml", "notebooks/1.0.0/test.yaml"}


async def test_a_card_that_is_taken_away_is_gone(gateway: Gateway, folder: Path) -> None:
    shutil.rmtree(folder / "batch")
    await gateway.catalogue.reload()
    assert await gateway.names("cms") == ["machine"]


async def test_when_the_source_goes_away_what_was_offered_stays(gateway: Gateway, folder: Path) -> None:
    before = gateway.catalogue.state
    away = folder.rename(folder.with_name("away"))
    answer = await gateway.send("POST", "/v1/catalogue/reload", "indaco-admins")
    assert answer.status == 503
    assert "is not there" in answer.json["detail"]
    folder.mkdir()
    answer = await gateway.send("POST", "/v1/catalogue/reload", "indaco-admins")
    assert (answer.status, answer.json["code"]) == (400, "invalid")
    status = (await gateway.get("/v1/catalogue/status", "indaco-admins")).json
    assert "there is no card" in status["error"]
    assert status["revision"] == before.revision
    assert await gateway.names("cms") == ["machine", "batch"]
    folder.rmdir()
    away.rename(folder)
    await gateway.catalogue.reload()
    assert gateway.catalogue.state.error == ""


# ── changes, as they come


async def test_a_change_is_seen_without_being_told_and_an_error_passes(gateway: Gateway, folder: Path) -> None:
    catalogue = gateway.catalogue
    watching = asyncio.create_task(catalogue.run())
    try:
        write(folder, "fresh")
        await until(lambda: "fresh" in catalogue.state.catalogue.cards)
        loaded_at = catalogue.state.loaded_at
        away = folder.rename(folder.with_name("away"))
        await until(lambda: bool(catalogue.state.error))
        assert await gateway.names() == ["machine", "fresh"]
        away.rename(folder)
        await until(lambda: not catalogue.state.error)
        assert catalogue.state.loaded_at == loaded_at  # nothing has changed, so nothing was read
        assert not watching.done()
    finally:
        watching.cancel()


async def test_readers_see_one_catalogue_or_the_other_while_it_is_exchanged(folder: Path, tmp_path: Path) -> None:
    """Every card says the same word; whoever sees two words has seen half of a change."""
    catalogue = ServiceCatalogue(Folder(folder), SystemClock(), 60, no_imports)
    seen = set()

    async def look() -> None:
        while True:
            seen.add(tuple(card.tags for card in catalogue.cards({"cms"})))
            await asyncio.sleep(0)

    def change(word: str) -> None:
        for name in ("machine", "batch"):
            write(folder, name, card=f"tags: [{word}]")

    change("first")
    await catalogue.reload()
    looking = asyncio.create_task(look())
    for word in ("a", "b", "c", "d"):
        change(word)
        await asyncio.gather(catalogue.reload(), catalogue.reload())
    looking.cancel()
    assert seen == {((word,), (word,)) for word in ("first", "a", "b", "c", "d")}


async def test_one_reading_is_over_before_another_begins(folder: Path) -> None:
    """Else the older of two could be the one that stays."""

    class Slow(Folder):
        under_way = 0

        async def read(self, known: str) -> Snapshot | None:
            self.under_way += 1
            assert self.under_way == 1
            await asyncio.sleep(0)
            found = await super().read(known)
            self.under_way -= 1
            return found

    catalogue = ServiceCatalogue(Slow(folder), SystemClock(), 60, no_imports)
    states = await asyncio.gather(catalogue.reload(), catalogue.reload(), catalogue.reload())
    assert all("machine" in state.catalogue.cards for state in states)


async def until(is_so: Any) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_before_the_first_reading_the_catalogue_is_not_there_and_users_are_not_told_our_folders(
    tmp_path: Path,
) -> None:
    catalogue = ServiceCatalogue(Folder(tmp_path / "nowhere"), SystemClock(), 60, no_imports)
    with pytest.raises(Unavailable, match="nowhere is not there"):
        await catalogue.reload()
    for look in (lambda: catalogue.cards(ALL), lambda: catalogue.card("machine", ALL)):
        with pytest.raises(Unavailable, match=r"has not been read yet$"):
            look()
    assert "nowhere" in catalogue.state.error


async def test_without_a_source_nothing_is_offered() -> None:
    catalogue = ServiceCatalogue(None, SystemClock(), 60, no_imports)
    state = await catalogue.reload()
    assert (state.loaded_at, catalogue.cards(ALL), catalogue.address) == (None, (), "")
    with pytest.raises(NotFound):
        catalogue.card("machine", ALL)


async def test_a_repository_is_served_at_its_newest_commit(folder: Path, tmp_path: Path) -> None:
    git(folder, "init", "--quiet")
    first = commit(folder)
    catalogue = ServiceCatalogue(
        source_of(f"git+file://{folder}?ref=main", tmp_path / "data"), SystemClock(), 0.02, no_imports
    )
    assert (await catalogue.reload()).revision == first
    watching = asyncio.create_task(catalogue.run())
    try:
        write(folder, "fresh")
        second = commit(folder)
        await until(lambda: catalogue.state.revision == second)
        assert "fresh" in catalogue.state.catalogue.cards
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    folder.rename(folder.with_name("away"))
    with pytest.raises(Unavailable, match="git fetch of file://"):
        await catalogue.reload()  # what is kept on disk does not hide that the server is away
    assert "fresh" in catalogue.state.catalogue.cards


async def test_a_template_may_import_what_is_pinned_once_it_is(folder: Path) -> None:
    """The folder does not change when a text is pinned; a reload sees that it can be had."""
    types = {"https://types.example.org/ours.yaml": None}
    template = TEMPLATE.replace("topology_template", f"imports: [{next(iter(types))}]\ntopology_template", 1)
    write(folder, "ours", template=template.replace("tosca.nodes.indigo.Compute", "org.example.Machine"))
    catalogue = ServiceCatalogue(Folder(folder), SystemClock(), 60, lambda: types.get)
    assert "ours" not in (await catalogue.reload()).catalogue.cards
    types[next(iter(types))] = """
    tosca_definitions_version: tosca_simple_yaml_1_3
    node_types: {org.example.Machine: {derived_from: tosca.nodes.indigo.Compute}}
    """
    state = await catalogue.reload()
    assert [problem.dump() for problem in state.catalogue.problems] == []
    assert state.catalogue.cards["ours"].versions[0].parsed.nodes["server"].type == "org.example.Machine"


# ── deploying from it


async def test_a_reference_stands_for_the_text_of_a_card_that_the_group_may_use(gateway: Gateway) -> None:
    resolve = gateway.catalogue.resolve
    assert resolve("catalogue:machine", "any") == TEMPLATE + "# 1.10.0\n"
    assert (
        resolve("catalogue:machine@1.2.0\n", "any")
        == resolve("catalogue:machine@1.2.0", "any")
        == TEMPLATE + "# 1.2.0\n"
    )
    assert resolve("catalogue:batch@latest", "cms") == TEMPLATE + "# 1.0.0\n"
    assert resolve(TEMPLATE, "any") is TEMPLATE
    for reference in (
        "catalogue:batch",
        "catalogue:none",
        "catalogue:",
        "catalogue:machine@9.9.9",
        "catalogue:../batch",
    ):
        with pytest.raises(Invalid) as refused:
            resolve(reference, "atlas")
        (problem,) = refused.value.errors
        assert (problem.pointer, problem.detail) == ("/template", refused.value.detail)
        assert problem.detail.startswith("For the group atlas: ")
