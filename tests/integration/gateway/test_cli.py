"""The ``indaco`` command against a gateway: exit codes, words, and help."""

import asyncio
import csv
import io
import json
import os
import re
import signal
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
import pytest
import yaml
from aiohttp import web
from click.testing import CliRunner

from indaco_client.cli import COMMANDS, main
from indaco_client.errors import (
    ActionFailed,
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

from .conftest import Indaco, spoken
from .world import ROOT, VM, World, running_event

pytestmark = pytest.mark.usefixtures("quiet")
TEMPLATE = str(ROOT / "examples" / "templates" / "virtual-machine.yaml")


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
    id = json.loads(made.stdout)["id"]
    shown = await indaco("deployment", "show", id)
    assert id in shown.stdout
    listed = await indaco("deployment", "list")
    assert [line.split()[:4] for line in listed.stdout.splitlines()] == [
        ["id", "name", "status", "group"], [id, "CREATE_IN_PROGRESS", "cms", listed.stdout.splitlines()[1].split()[3]],
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


@asynccontextmanager
async def odd_server(text: str) -> AsyncIterator[str]:
    """A server that is no gateway: *text* is all it says."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


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
    async with odd_server("<html>") as url:
        codes[1] = await indaco("deployment", "show", id, INDACO_URL=url)
    failed = await world.created()
    reason = Failure(code="x", detail="no place is left")
    await world.say(orchestrator.DeploymentFailed(deployment_id=DeploymentId(failed), reason=reason))
    codes[8] = await indaco("deployment", "wait", failed)
    assert {code: result.exit_code for code, result in codes.items()} == {code: code for code in codes}
    assert codes[1].stderr == f"error: {url} does not answer as a gateway does\n  try: is INDACO_URL right?\n"
    assert codes[3].stderr == "error: you are not signed in\n  try: indaco login, or set INDACO_TOKEN\n"
    assert codes[4].stderr.startswith("error: The deployment <nothing> doesn't exist\n  request: req-")
    assert "The group atlas is not in the user's authorized groups" in codes[6].stderr
    assert "no place is left" in codes[8].stderr
    assert "127.0.0.1:9 does not answer\n  try: is it running? indaco run" in codes[9].stderr
    assert all(result.stdout == "" for code, result in codes.items() if code)


def test_every_kind_of_error_has_the_exit_code_that_the_help_tells() -> None:
    kinds = (
        IndacoClientError,
        NotSignedIn,
        NotFound,
        Conflict,
        Refused,
        TimedOut,
        DeploymentFailed,
        ActionFailed,
        Unreachable,
    )
    assert [kind.exit_code for kind in kinds] == [1, 3, 4, 5, 6, 7, 8, 8, 9]
    shown = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    told = (
        "0 done",
        "1 failed",
        "2 usage",
        "3 not signed in",
        "7 still running",
        "8 the deployment failed",
        "130 interrupted",
    )
    assert [each for each in told if each not in shown] == []


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
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


LEAVES = [path for path, command in commands(main) if not isinstance(command, click.Group)]
OURS = [path for path, _ in commands(main) if path[0] in COMMANDS]


@pytest.mark.parametrize("path", sorted({*LEAVES, *OURS}), ids=" ".join)
def test_the_help_of_every_command_has_an_example_of_it(path: tuple[str, ...]) -> None:
    shown = " ".join(CliRunner().invoke(main, [*path, "--help"]).output.split())
    assert f"indaco {' '.join(path)}" in shown.partition("Example")[2], shown


@pytest.mark.parametrize(
    ("arguments", "goes_on"),
    [
        (("deployment", "create", TEMPLATE, "--group", "cms", "--wait"), "stopped waiting; the deployment goes on: indaco deployment watch "),
        (("deployment", "watch", "here"), "stopped watching; the deployment goes on"),
        (("deployment", "wait", "here"), "stopped waiting; the deployment goes on: indaco deployment watch "),
    ],
)  # fmt: skip
async def test_who_interrupts_is_told_that_the_deployment_goes_on_with_exit_code_130(
    world: World, environment: dict[str, str | None], arguments: tuple[str, ...], goes_on: str
) -> None:
    made = await world.send("POST", "/v1/deployments", json={"template": VM, "group": "cms", "name": "here"})
    assert made.status == 201
    process = await spoken(*arguments, environment={**environment, "INDACO_DEBUG": "1"})
    assert process.stderr is not None
    async with asyncio.timeout(30):
        while not re.match(rb"> GET \S+/v1/deployments/[0-9a-f-]{36}", line := await process.stderr.readline()):
            assert line, "it ended before it was interrupted"
    process.send_signal(signal.SIGINT)
    _, told = await process.communicate()
    assert process.returncode == 130, told.decode()
    assert goes_on in told.decode()
    assert "Traceback" not in told.decode()


async def test_the_installed_command_ends_with_the_code_of_the_error(
    world: World, environment: dict[str, str | None]
) -> None:
    process = await spoken("deployment", "show", "nothing", environment=environment)
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


async def test_every_output_is_for_programs_or_people_and_has_the_same_facts(world: World, indaco: Indaco) -> None:
    made = await indaco(
        "deployment", "create", TEMPLATE, "--group", "cms", "--name", "one, two", "--tag", "a=1", "-o", "name"
    )
    id = made.stdout.strip()
    shown = {how: await indaco("deployment", "list", "-o", how) for how in ("table", "json", "yaml", "csv", "name")}
    assert {how: result.exit_code for how, result in shown.items()} == dict.fromkeys(shown, 0)
    api = (await world.get("/v1/deployments")).json["content"]
    assert json.loads(shown["json"].stdout) == yaml.safe_load(shown["yaml"].stdout) == api
    (row,) = csv.DictReader(io.StringIO(shown["csv"].stdout))
    assert (row["id"], row["name"], row["group"]) == (id, "one, two", "cms")
    assert shown["name"].stdout == f"{id}\n"
    assert "\x1b" not in shown["table"].stdout
    chosen = await indaco("deployment", "list", INDACO_OUTPUT="json")
    assert json.loads(chosen.stdout) == api
    assert (await indaco("deployment", "list", "-o", "name", INDACO_OUTPUT="json")).stdout == f"{id}\n"
    wrong = await indaco("deployment", "list", INDACO_OUTPUT="xml")
    assert (wrong.exit_code, "INDACO_OUTPUT: 'xml' is none of table, json" in wrong.stderr) == (2, True)


async def test_debug_shows_the_exchange_and_no_secret(world: World, indaco: Indaco, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush-hush\n")
    options = ("--group", "cms", "--set-file", f"service_token={tmp_path / 'secret'}", "-o", "name")
    made = await indaco(
        "--debug", "deployment", "create", str(ROOT / "examples/templates/docker-compose.yaml"), *options
    )
    assert made.exit_code == 0, made.output
    assert f"> POST {world.url}/v1/deployments\n> Authorization: ***\n" in made.stderr
    assert '"parameters": {"service_token": "***"}' in made.stderr
    assert f"< 201 for POST {world.url}/v1/deployments\n" in made.stderr
    await world.say(running_event(made.stdout.strip(), outputs={"password": "xyzzy"}))
    shown = await indaco("--debug", "deployment", "outputs", made.stdout.strip(), "password")
    assert shown.stdout == "xyzzy\n"
    told = made.stderr + shown.stderr
    assert not [secret for secret in ("hush-hush", "xyzzy", world.issuer.token()[:20]) if secret in told]
    refused = await indaco("--debug", "deployment", "show", "nothing")
    assert f"< 404 for GET {world.url}/v1/deployments/nothing" in refused.stderr


async def test_a_session_is_for_the_gateway_that_it_was_begun_at(world: World, indaco: Indaco, tmp_path: Path) -> None:
    file = tmp_path / "home" / ".config" / "indaco" / "session.json"
    file.parent.mkdir(parents=True)
    session = {"issuer": world.issuer.url, "url": world.url, "access_token": world.issuer.token(), "expires_at": 1e12}
    file.write_text(json.dumps(session))
    assert (await indaco("deployment", "list", INDACO_TOKEN=None, INDACO_URL=None)).exit_code == 0
    async with odd_server("{}") as elsewhere:
        result = await indaco("--url", elsewhere, "deployment", "list", INDACO_TOKEN=None)
    assert result.exit_code == 3
    assert f"you are signed in at {world.url}, not at {elsewhere}" in result.stderr


async def test_who_one_is(world: World, indaco: Indaco) -> None:
    me = json.loads((await indaco("whoami", "-o", "json")).stdout)
    assert (me["subject"], me["issuer"], me["groups"]) == ("ada", world.issuer.url, ["cms", "cms/analysis"])
    assert (await indaco("whoami", "-o", "name")).stdout == "ada\n"
