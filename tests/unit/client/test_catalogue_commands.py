"""``indaco catalogue``: against a gateway's own routes, and on a folder without any."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result
from tests.integration.gateway.world import Issuer
from tests.unit.gateway.catalogue_files import TEMPLATE, write
from tests.unit.gateway.catalogue_gateway import Gateway, serving

from indaco_client import wire
from indaco_client.catalogue_commands import CATALOGUE_COMMANDS
from indaco_client.cli import Group
from indaco_client.errors import NotFound, NotSignedIn, Refused
from indaco_common.testing.federation import MemoryKeys

Run = Callable[..., Awaitable[Result]]
main = Group("indaco", commands={command.name: command for command in CATALOGUE_COMMANDS if command.name})


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Keep the gateway's log out of what the command prints: both share the process here."""

    def drop(_: object, __: str, ___: structlog.typing.EventDict) -> structlog.typing.EventDict:
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[drop])
    yield
    structlog.configure(**before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "cards"
    write(root, versions=("1.0.0", "1.1.0"), card="tags: [vm]\norder: 1")
    write(root, "batch", card="groups: [cms]")
    return root


@pytest.fixture
async def gateway(folder: Path, tmp_path: Path) -> AsyncIterator[Gateway]:
    issuer = Issuer(MemoryKeys())
    await issuer.start()
    async with serving(folder, tmp_path, issuer) as gateway:
        yield gateway
    await issuer.stop()


@pytest.fixture
def run(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as a member of *groups*; the server is in this thread's loop, the command in another's."""
    monkeypatch.setattr(wire, "PAUSE_S", 0.01)

    async def run(*arguments: str, groups: tuple[str, ...] = ("cms",), token: bool = True) -> Result:
        known = {"INDACO_TOKEN": gateway.issuer.token("ada", groups)} if token else {"INDACO_TOKEN": None}
        environment = {
            "INDACO_URL": str(gateway.server.make_url("")),
            "INDACO_SESSION": str(tmp_path / "none"),
            **known,
        }
        return await asyncio.to_thread(CliRunner().invoke, main, ["catalogue", *arguments], env=environment)

    return run


def offline(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["catalogue", *arguments])


# ── of a gateway


async def test_the_list_is_of_the_users_groups(run: Run) -> None:
    shown = (await run("list")).stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["name", "machine", "batch"]
    assert [card["name"] for card in json.loads((await run("list", "-o", "json", groups=("atlas",))).stdout)] == [
        "machine"
    ]
    assert "batch" not in (await run("list", "--group", "atlas", groups=("atlas", "cms"))).stdout
    assert (await run("list", "--group", "atlas")).exit_code == Refused.exit_code


async def test_a_card_is_shown_with_what_it_asks_for_and_its_guide(run: Run) -> None:
    shown = (await run("show", "machine")).stdout
    assert "1.1.0, 1.0.0" in shown
    assert "Inputs of version 1.1.0:" in shown
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith("cpus")] == [["cpus", "2"]]
    assert shown.endswith("# machine\n\n")
    told = json.loads((await run("show", "machine", "--version", "1.0.0", "-o", "json")).stdout)
    assert (told["version"], told["form"]["version"]) == ("1.1.0", "1.0.0")


async def test_a_template_is_printed_as_it_is(run: Run) -> None:
    assert (await run("template", "machine")).stdout == TEMPLATE + "# 1.1.0\n"
    assert (await run("template", "machine", "--version", "1.0.0")).stdout == TEMPLATE + "# 1.0.0\n"


async def test_what_is_not_there_for_the_user_is_not_found(run: Run) -> None:
    for arguments in (("show", "batch"), ("template", "batch"), ("template", "../keys"), ("show", "")):
        result = await run(*arguments, groups=("atlas",))
        assert result.exit_code == NotFound.exit_code, arguments
        assert "error: There is no" in result.stderr
    assert (await run("list", token=False)).exit_code == NotSignedIn.exit_code


async def test_operators_see_how_it_stands_and_reload_it(run: Run, folder: Path) -> None:
    assert (await run("status")).exit_code == Refused.exit_code
    assert (await run("reload")).exit_code == Refused.exit_code
    assert "cards      2" in (await run("status", groups=("indaco-admins",))).stdout
    write(folder, "batch", card="tagz: []")
    shown = (await run("reload", groups=("indaco-admins",))).stdout
    assert "last good state of  batch" in shown
    assert "there is no key 'tagz' here" in shown
    told = json.loads((await run("status", "-o", "json", groups=("indaco-admins",))).stdout)
    assert [problem["file"] for problem in told["problems"]] == ["batch/card.yaml"]


# ── of a folder


def test_a_catalogue_that_is_fit_is_valid(folder: Path) -> None:
    result = offline("validate", str(folder))
    assert (result.exit_code, result.stdout) == (0, "2 cards, 3 versions, 3 tests: all fit\n")
    told = json.loads(offline("validate", str(folder), "-o", "json").stdout)
    assert told == {"cards": 2, "versions": 3, "tests": 3, "problems": []}


def test_what_is_not_fit_is_told_with_file_line_and_how_to_mend_it(folder: Path, tmp_path: Path) -> None:
    write(folder, "batch", card="tagz: []", test="cases: [{name: n, expect: {nodes: {server: {cpus: 9}}}}]")
    write(folder, "other", test="cases: [{name: n, expect: {nodes: {server: {cpus: 9}}}}]")
    (folder / "machine" / "1.0.0" / "test.yaml").unlink()
    (folder / "machine" / "1.0.0" / "test.yaml").symlink_to(folder / "machine" / "1.1.0" / "test.yaml")
    result = offline("validate", str(folder))
    assert result.exit_code == Refused.exit_code
    rows = [line.split(maxsplit=2) for line in result.stdout.splitlines()[1:]]
    assert [(file, line) for file, line, _ in rows] == [
        ("batch/card.yaml", "3"), ("machine/1.0.0/test.yaml", "0"), ("other/1.0.0/test.yaml", "1"),
    ]  # fmt: skip
    assert "known are: description" in rows[0][2]
    assert "n: cpus is 2.0, not 9" in rows[2][2]
    assert "error: not fit to be offered: batch, machine, other" in result.stderr
    told = json.loads(offline("validate", str(folder), "-o", "json").stdout)
    assert (told["cards"], len(told["problems"])) == (0, 3)


def test_what_is_no_catalogue_is_refused(tmp_path: Path) -> None:
    result = offline("validate", str(tmp_path))
    assert result.exit_code == Refused.exit_code
    assert "there is no card" in result.stderr
    assert offline("validate", str(tmp_path / "nowhere")).exit_code == 2


@pytest.mark.parametrize("command", ["list", "show", "template", "status", "reload", "validate"])
def test_every_command_has_an_example(command: str) -> None:
    assert "Example: indaco catalogue" in offline(command, "--help").stdout
