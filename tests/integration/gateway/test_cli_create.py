"""``indaco deployment create``: where inputs come from, what is asked for on a real terminal, and the dry run."""

import asyncio
import fcntl
import json
import os
import pty
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from indaco_common.contracts import gateway, sla
from indaco_common.contracts.values import Proposed, Reason
from indaco_common.units import ResourceVector

from .conftest import Indaco
from .world import ROOT, World, running_event

COMPOSE = str(ROOT / "examples" / "templates" / "docker-compose.yaml")
VM = str(ROOT / "examples" / "templates" / "virtual-machine.yaml")
ASKING = """
tosca_definitions_version: tosca_simple_yaml_1_0
topology_template:
  inputs:
    size: {type: string, description: How large it is to be, constraints: [{valid_values: [small, large]}]}
    count: {type: integer, default: 1}
    token: {type: string, metadata: {secret: true}}
  node_templates:
    server:
      type: tosca.nodes.indigo.Compute
      capabilities:
        host: {properties: {num_cpus: {get_input: count}, mem_size: 1 GB}}
        os: {properties: {type: linux, distribution: ubuntu, version: "22.04"}}
"""
pytestmark = pytest.mark.usefixtures("quiet")
Dialogue = Sequence[tuple[str, str]]


async def request_of(world: World) -> gateway.DeploymentRequested:
    (found,) = [message for message in await world.messages() if isinstance(message, gateway.DeploymentRequested)]
    return found


async def test_inputs_come_from_files_standard_input_and_options_in_that_order(
    world: World, indaco: Indaco, tmp_path: Path
) -> None:
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    made = await indaco(
        "deployment", "create", COMPOSE, "-f", "-", "--set", "num_cpus=4", "--set-json", 'environment_variables=[{"A": "b"}]',
        "--set-file", f"compose_file={tmp_path / 'compose.yaml'}", "--group", "cms", "--name", "mine", "--tag", "a=1", "--tag", "b=x=y",
        "-o", "json", input="num_cpus: 2\nmem_size: 2 GB\nservice_token: hush\n",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    shown = json.loads(made.stdout)
    assert (shown["name"], shown["tags"], shown["secret_inputs"]) == ("mine", {"a": "1", "b": "x=y"}, ["service_token"])
    inputs = (await request_of(world)).inputs
    assert inputs == {
        "num_cpus": 4, "mem_size": "2 GB", "environment_variables": [{"A": "b"}], "compose_file": "services: {}",
    }  # fmt: skip
    assert await world.secret(f"inputs/{shown['id']}") == {"service_token": "hush"}


@pytest.mark.parametrize("option", ["--set", "--set-json"])
async def test_a_secret_on_the_command_line_is_refused_before_anything_is_sent(
    world: World, indaco: Indaco, option: str
) -> None:
    result = await indaco("deployment", "create", COMPOSE, "--group", "cms", option, 'service_token="hush-hush"')
    assert result.exit_code == 2
    assert (
        "service_token: secret, and seen by others on a command line; use --set-file service_token=PATH"
        in result.stderr
    )
    assert "hush-hush" not in result.output
    assert not any(world.rows().values())


async def test_a_secret_comes_from_standard_input(world: World, indaco: Indaco) -> None:
    options = ("--group", "cms", "--set-file", "service_token=-", "-o", "name")
    made = await indaco("deployment", "create", COMPOSE, *options, input="hush\n")
    assert await world.secret(f"inputs/{made.stdout.strip()}") == {"service_token": "hush"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--set-json", "a={"), "--set-json a: "), (("--set-json", "a"), "write NAME=JSON"), (("--set-file", "a=/no/such"), "No such file"),
        (("--tag", "a"), "write NAME=VALUE"), (("--timeout", "soon"), "write 90, 90s, 30m"), (("-o", "xml"), "Invalid value for '-o'"),
    ],
)  # fmt: skip
async def test_wrong_options_are_told_before_anything_is_sent(
    world: World, indaco: Indaco, options: tuple[str, ...], says: str
) -> None:
    result = await indaco("deployment", "create", COMPOSE, *options)
    assert (result.exit_code, says in result.stderr) == (2, True), result.stderr
    assert not any(world.rows().values())


async def test_under_one_idempotency_key_there_is_one_deployment(world: World, indaco: Indaco) -> None:
    options = ("--group", "cms", "--idempotency-key", "k", "-o", "name")
    first, second = [await indaco("deployment", "create", COMPOSE, *options) for _ in range(2)]
    assert first.stdout == second.stdout
    other = await indaco("deployment", "create", COMPOSE, *options, "--set", "num_cpus=3")
    assert (other.exit_code, "different" in other.stderr or "another" in other.stderr) == (6, True), other.stderr


async def test_without_a_terminal_nothing_is_asked(world: World, indaco: Indaco, tmp_path: Path) -> None:
    (tmp_path / "asking.yaml").write_text(ASKING)
    result = await indaco("deployment", "create", str(tmp_path / "asking.yaml"), "--group", "cms", input="small\n")
    assert result.exit_code == 6
    assert "parameters/size" in result.stderr


async def on_a_terminal(
    *arguments: str, environment: dict[str, str | None], answers: Dialogue = (), kind: str = "dumb"
) -> tuple[int, str]:
    """Run the command on a terminal of its own and type each answer once its question stands there; return code and screen."""
    leader, follower = pty.openpty()
    known = {
        **os.environ,
        **{name: value for name, value in environment.items() if value},
        "TERM": kind,
        "COLUMNS": "120",
    }
    command = (sys.executable, "-m", "indaco_client.cli", *arguments)
    process = await asyncio.create_subprocess_exec(
        *command, env=known, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(follower)
    os.set_blocking(leader, False)
    screen, waiting, seen = "", list(answers), 0
    async with asyncio.timeout(60):
        while process.returncode is None or waiting:
            with suppress(BlockingIOError, OSError):
                screen += os.read(leader, 65_536).decode()
            if waiting and (at := screen.find(waiting[0][0], seen)) >= 0:
                seen = at + len(waiting[0][0])
                os.write(leader, waiting.pop(0)[1].encode() + b"\n")
            if process.returncode is not None:
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 0.05)
    with suppress(OSError):
        screen += os.read(leader, 65_536).decode()
    os.close(leader)
    assert not waiting, screen
    assert process.returncode is not None
    return process.returncode, screen


async def test_on_a_terminal_what_is_missing_is_asked_for_and_a_secret_is_not_shown(
    world: World, environment: dict[str, str | None], tmp_path: Path
) -> None:
    (tmp_path / "asking.yaml").write_text(ASKING)
    arguments = ("deployment", "create", str(tmp_path / "asking.yaml"), "--group", "cms", "-o", "name")
    answers = (("Size: ", "huge"), ("Size: ", "2"), ("Token: ", "hush-hush"))
    code, screen = await on_a_terminal(*arguments, environment=environment, answers=answers)
    assert code == 0, screen
    assert "How large it is to be" in screen
    assert "1  small" in screen
    assert "answer one of 1 to 2" in screen
    assert "hush-hush" not in screen
    assert "Count" not in screen
    request = await request_of(world)
    assert request.inputs == {"size": "large"}
    assert await world.secret(f"inputs/{request.deployment_id}") == {"token": "hush-hush"}


async def test_all_inputs_are_asked_for_with_their_defaults_if_one_wishes(
    world: World, environment: dict[str, str | None], tmp_path: Path
) -> None:
    (tmp_path / "asking.yaml").write_text(ASKING)
    arguments = (
        "deployment",
        "create",
        str(tmp_path / "asking.yaml"),
        "--group",
        "cms",
        "--ask",
        "--set",
        "size=small",
    )
    answers = (("Count [1]: ", ""), ("Token: ", "t"))
    code, screen = await on_a_terminal(*arguments, environment=environment, answers=answers)
    assert code == 0, screen
    assert (await request_of(world)).inputs == {"size": "small"}


async def test_ctrl_c_at_a_question_sends_nothing_and_ends_with_130(
    world: World, environment: dict[str, str | None], tmp_path: Path
) -> None:
    (tmp_path / "asking.yaml").write_text(ASKING)
    arguments = ("deployment", "create", str(tmp_path / "asking.yaml"), "--group", "cms")
    code, screen = await on_a_terminal(*arguments, environment=environment, answers=(("Size: ", "\x03"),))
    assert code == 130, screen
    assert not any(world.rows().values())


@pytest.mark.parametrize("output", ["table", "json"])
async def test_a_dry_run_shows_what_where_and_why_not_elsewhere(world: World, indaco: Indaco, output: str) -> None:
    running = asyncio.create_task(indaco("deployment", "create", COMPOSE, "--group", "cms", "--dry-run", "-o", output))
    asked: list[gateway.PlanRequested] = []

    async def is_asked() -> bool:
        asked[:] = [message for message in await world.messages() if isinstance(message, gateway.PlanRequested)]
        return bool(asked)

    await world.until(is_asked)
    place = Proposed(
        provider="SITE-A", region="one", score=0.9, terms={"agreement": 1.0, "headroom": 0.8}, agreement="a", kind="openstack", nodes={},
        left=ResourceVector(instances=3),
    )  # fmt: skip
    answer = sla.PlacementProposed(
        inquiry_id=asked[0].inquiry_id, ranked=(place,), refused=(Reason(provider="SITE-B", code="QUOTA", detail="2 vCPU missing"),),
        ranked_total=1, refused_total=1, at=world.infra.clock.now(),
    )  # fmt: skip
    await world.say(answer, source="sla")
    result = await running
    assert result.exit_code == 0, result.output
    if output == "json":
        assert json.loads(result.stdout)["placement"]["refused"][0]["detail"] == "2 vCPU missing"
    else:
        lines = [line.split() for line in result.stdout.splitlines()]
        assert lines[1][:6] == ["server", "machine", "1", "2", "3.73", "GiB"]
        assert ["1", "SITE-A", "one", "0.9", "agreement", "1.00,", "headroom", "0.80"] in lines
        assert ["not", "SITE-B", "2", "vCPU", "missing"] in lines
    assert (await world.get("/v1/deployments")).json["content"] == []


async def test_on_a_terminal_waiting_shows_what_goes_on_below_what_happened(
    world: World, environment: dict[str, str | None]
) -> None:
    arguments = ("deployment", "create", VM, "--group", "cms", "--no-input", "--wait")
    waiting = asyncio.create_task(on_a_terminal(*arguments, environment=environment, kind="xterm"))
    made: list[str] = []

    async def is_there() -> bool:
        made[:] = [one["id"] for one in (await world.get("/v1/deployments")).json["content"]]
        return bool(made)

    await world.until(is_there)
    await asyncio.sleep(1)
    await world.say(running_event(made[0]))
    code, screen = await waiting
    assert code == 0, screen
    assert "Request accepted: for the group cms" in screen
    assert "CREATE_IN_PROGRESS, " in screen  # below, and for how long
    assert "Running: 1 nodes" in screen
    plain, _ = await on_a_terminal("deployment", "list", environment={**environment, "NO_COLOR": "1"}, kind="xterm")
    assert plain == 0
    _, told = await on_a_terminal(
        "deployment", "show", "nothing", environment={**environment, "NO_COLOR": "1"}, kind="xterm"
    )
    assert "\x1b[31m" not in told
    _, told = await on_a_terminal("deployment", "show", "nothing", environment=environment, kind="xterm")
    assert "\x1b[31merror: " in told


async def test_on_a_terminal_a_member_of_several_groups_is_asked_for_which(
    world: World, environment: dict[str, str | None]
) -> None:
    code, screen = await on_a_terminal("deployment", "create", VM, environment=environment, answers=(("Group: ", "2"),))
    assert code == 0, screen
    assert (await request_of(world)).group.path == "cms/analysis"
