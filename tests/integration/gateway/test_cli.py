"""The ``indaco`` command against a gateway: exit codes, words, and help."""

import asyncio
import json
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import click
import pytest
import structlog
from click.testing import CliRunner, Result

from indaco_client.cli import main
from indaco_client.errors import (
    Conflict,
    DeploymentFailed,
    IndacoClientError,
    NotFound,
    NotSignedIn,
    Refused,
    TimedOut,
    Unreachable,
)  # fmt: skip
from indaco_client.login import load, save
from indaco_common.contracts import orchestrator
from indaco_common.contracts.sla import PlacementRejected
from indaco_common.contracts.values import Failure, Reason
from indaco_common.ids import DeploymentId

from .world import ROOT, World, running_event

TEMPLATE = str(ROOT / "examples" / "templates" / "virtual-machine.yaml")
Indaco = Callable[..., Awaitable[Result]]


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
def environment(quiet: None, world: World, tmp_path: Path) -> dict[str, str | None]:
    return {
        "INDACO_URL": world.url, "INDACO_TOKEN": world.issuer.token(), "INDACO_SESSION": str(tmp_path / "session.json"),
    }  # fmt: skip


@pytest.fixture
def indaco(environment: dict[str, str | None]) -> Indaco:
    async def run(*arguments: str, **more: str | None) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, main, arguments, env={**environment, **more})

    return run


async def test_a_deployment_is_created_with_inputs_from_file_and_command_line(
    world: World, indaco: Indaco, tmp_path: Path
) -> None:
    (tmp_path / "inputs.yaml").write_text("num_cpus: 2\nos_version: 20.10\n")
    made = await indaco(
        "deployment", "create", TEMPLATE, "-f", str(tmp_path / "inputs.yaml"), "--set", "os_version=22.10", "--set",
        "service_ports={web: {protocol: tcp, source: 80}}", "--group", "cms", "-o", "json",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    (request,) = await world.messages()
    assert request.model_dump()["inputs"] == {
        "num_cpus": 2, "os_version": "22.10", "service_ports": {"web": {"protocol": "tcp", "source": 80}},
    }  # fmt: skip
    id = json.loads(made.stdout)["uuid"]
    shown = await indaco("deployment", "show", id)
    assert id in shown.stdout
    listed = await indaco("deployment", "list")
    assert [line.split()[:3] for line in listed.stdout.splitlines()] == [
        ["id", "status", "group"], [id, "CREATE_IN_PROGRESS", "cms"],
    ]  # fmt: skip
    assert (await indaco("deployment", "template", id)).stdout == Path(TEMPLATE).read_text()


async def test_a_creation_that_is_waited_for_tells_what_happens(world: World, indaco: Indaco) -> None:
    running = asyncio.create_task(
        indaco("deployment", "create", TEMPLATE, "--group", "cms", "--wait", "--timeout", "30")
    )

    async def is_there() -> bool:
        return world.rows()["aggregates"] == 1

    await world.until(is_there)
    id = (await world.get("/deployments")).json["content"][0]["uuid"]
    await world.say(running_event(id))
    result = await running
    assert result.exit_code == 0
    assert "CREATE_COMPLETE" in result.stdout
    assert [line.partition("  ")[2] for line in result.stderr.splitlines()[1:]] == [
        "Request accepted: for the group cms", "Running: 1 nodes",
    ]  # fmt: skip


async def test_why_a_place_was_refused_is_shown_as_it_was_said(world: World, indaco: Indaco) -> None:
    id = await world.created()
    detail = "[bold]4 vCPU asked[/x], 2 free\x1b[2J"
    refused = PlacementRejected(
        deployment_id=DeploymentId(id), attempt=1, slot="main", reasons=(Reason(provider="SITE-A", code="QUOTA", detail=detail),)
    )  # fmt: skip
    await world.say(refused, source="sla")
    shown = await indaco("deployment", "show", id)
    assert shown.exit_code == 0
    assert "not SITE-A" in shown.stdout
    assert "[bold]4 vCPU asked[/x], 2 free" in shown.stdout
    assert "\x1b" not in shown.stdout


async def test_exit_codes_say_what_kind_of_no_it_was(world: World, indaco: Indaco) -> None:
    id = await world.created()
    codes = {
        0: await indaco("deployment", "delete", id),
        2: await indaco("deployment", "create", TEMPLATE, "--set", "no-equals-sign"),
        3: await indaco("deployment", "list", INDACO_TOKEN=None),
        4: await indaco("deployment", "show", "nothing"),
        5: await indaco("deployment", "delete", id),
        6: await indaco("deployment", "create", TEMPLATE, "--group", "atlas"),
        7: await indaco("deployment", "wait", id, "--timeout", "0.1"),
        9: await indaco("deployment", "delete", id, INDACO_URL="http://127.0.0.1:9"),
    }
    failed = await world.created()
    reason = Failure(code="x", detail="no place is left")
    await world.say(orchestrator.DeploymentFailed(deployment_id=DeploymentId(failed), reason=reason))
    codes[8] = await indaco("deployment", "wait", failed)
    assert {code: result.exit_code for code, result in codes.items()} == {code: code for code in codes}
    assert codes[3].stderr == "error: you are not signed in\n  try: indaco login, or set INDACO_TOKEN\n"
    assert codes[4].stderr.startswith("error: The deployment <nothing> doesn't exist\n  request: req-")
    assert "The group atlas is not in the user's authorized groups" in codes[6].stderr
    assert "no place is left" in codes[8].stderr
    assert "127.0.0.1:9 does not answer\n  try: is it running? indaco run" in codes[9].stderr
    assert all(result.stdout == "" for code, result in codes.items() if code)


def test_every_kind_of_error_has_the_exit_code_that_the_help_tells() -> None:
    kinds = (IndacoClientError, NotSignedIn, NotFound, Conflict, Refused, TimedOut, DeploymentFailed, Unreachable)
    assert [kind.exit_code for kind in kinds] == [1, 3, 4, 5, 6, 7, 8, 9]
    shown = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    for told in ("0 done", "1 failed", "2 usage", "3 not signed in", "7 still running", "8 the deployment failed"):
        assert told in shown


@pytest.mark.parametrize(("setting", "says"), [("users=[", "--set users: "), ("=x", "write NAME=VALUE")])
async def test_inputs_that_are_no_yaml_are_told_before_anything_is_sent(
    indaco: Indaco, setting: str, says: str
) -> None:
    result = await indaco("deployment", "create", TEMPLATE, "--set", setting)
    assert result.exit_code == 2
    assert says in result.stderr


@pytest.mark.parametrize("text", ["- a list", "7", "{1: x}", "a: [", "\t"])
async def test_a_file_of_inputs_is_a_map(indaco: Indaco, tmp_path: Path, text: str) -> None:
    (tmp_path / "inputs").write_text(text)
    result = await indaco("deployment", "create", TEMPLATE, "-f", str(tmp_path / "inputs"))
    assert result.exit_code == 2
    assert result.exception is None or isinstance(result.exception, SystemExit)


async def test_a_private_key_stays_where_it_is(world: World, indaco: Indaco, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    result = await indaco("key", "add", str(tmp_path / "id"))
    assert result.exit_code == 2
    assert "is a private key; it stays with you" in result.stderr
    assert not any(world.rows().values())


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize("path", [path for path, _ in commands(main)], ids=" ".join)
def test_the_help_of_every_command_has_an_example_of_it(path: tuple[str, ...]) -> None:
    shown = " ".join(CliRunner().invoke(main, [*path, "--help"]).output.split())
    assert f"indaco {' '.join(path)}" in shown.partition("Example")[2], shown


async def test_the_installed_command_ends_with_the_code_of_the_error(
    world: World, environment: dict[str, str | None]
) -> None:
    known = {**os.environ, **{name: value for name, value in environment.items() if value}}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "indaco_client.cli", "deployment", "show", "nothing", env=known, stderr=asyncio.subprocess.PIPE
    )  # fmt: skip
    _, told = await process.communicate()
    assert process.returncode == 4
    assert told.decode().startswith("error: The deployment <nothing> doesn't exist")


async def test_a_session_is_kept_for_its_owner_alone_and_renewed_in_time(
    world: World, indaco: Indaco, tmp_path: Path
) -> None:
    file = tmp_path / "session.json"
    session = {"issuer": world.issuer.url, "url": world.url, "access_token": world.issuer.token(), "expires_at": 1e12}
    os.environ["INDACO_SESSION"] = str(file)
    try:
        save(session)
        assert load() == session
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert (await indaco("deployment", "list", INDACO_TOKEN=None, INDACO_URL=None)).exit_code == 0
        save({**session, "expires_at": 0, "refresh_token": "gone"})
        ended = await indaco("deployment", "list", INDACO_TOKEN=None)
        assert (ended.exit_code, ended.stderr.splitlines()[0]) == (3, "error: the session has ended")
        file.write_text('{"access_token": 1}')
        assert load() is None
        assert (await indaco("logout")).exit_code == 0
        assert not file.exists()
    finally:
        del os.environ["INDACO_SESSION"]
