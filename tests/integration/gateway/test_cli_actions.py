"""``indaco deployment stop`` and ``start`` and the client behind them, with an orchestrator that answers as the tests say."""

import asyncio
import json

import pytest

from indaco_client import Client
from indaco_client.errors import ActionFailed, TimedOut
from indaco_common.contracts import orchestrator

from .conftest import Indaco
from .test_actions import BOTH, PAIR, asked, refused, resumed, states, stopped
from .world import World, node, running_event

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
async def id(world: World) -> str:
    """A deployment of two machines that runs."""
    id = await world.created(PAIR, name="pair")
    started = [orchestrator.NodeStarted(**node(id, name), public_address=f"192.0.2.{name[-1]}") for name in BOTH]
    await world.say(*started, running_event(id, nodes=BOTH))
    return id


async def is_asked(world: World, count: int = 1) -> None:
    async def look() -> bool:
        return len(await asked(world)) == count

    await world.until(look)


async def test_the_named_machines_are_stopped_and_shown_on_their_way(world: World, id: str, indaco: Indaco) -> None:
    done = await indaco("deployment", "stop", "pair", "server-0")
    assert done.exit_code == 0, done.output
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        ["node", "state", "address"],
        ["server-0", "STOPPING", "192.0.2.0"],
    ]
    assert await states(world, id) == {"server-0": "STOPPING", "server-1": "STARTED"}
    await world.say(stopped(id))
    listed = await indaco("resource", "list", "pair", "-o", "json")
    assert [each["state"] for each in json.loads(listed.stdout)] == ["STOPPED", "STARTED"]
    done = await indaco("resource", "start", "pair", "server-0", "-o", "name")
    assert (done.exit_code, done.stdout) == (0, "server-0\n")
    assert await asked(world) == [(1, "stop", ("server-0",)), (2, "start", ("server-0",))]


async def test_who_waits_is_told_what_happens_until_all_stand_still(world: World, id: str, indaco: Indaco) -> None:
    waiting = asyncio.create_task(indaco("deployment", "stop", "pair", "--wait", "--timeout", "20s"))
    await is_asked(world)
    await world.say(stopped(id), stopped(id, name="server-1"))
    done = await waiting
    assert done.exit_code == 0, done.output
    assert [line.partition("  ")[2] for line in done.stderr.splitlines()] == [
        "Stop requested: server-0, server-1",
        "server-0 stopped",
        "server-1 stopped",
    ]
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == ["STOPPED", "STOPPED"]
    again = await indaco("deployment", "stop", "pair", "--wait")
    assert (again.exit_code, again.stderr) == (0, "")
    waiting = asyncio.create_task(indaco("deployment", "start", "pair", "server-1", "--wait", "--timeout", "20s"))
    await is_asked(world, 2)
    await world.say(resumed(id, 2, "server-1"))
    done = await waiting
    assert done.stderr.splitlines()[-1].endswith("server-1 runs again: 192.0.2.77")
    assert done.stdout.splitlines()[1].split()[:3] == ["server-1", "STARTED", "192.0.2.77"]


async def test_an_action_that_fails_ends_the_wait_with_8_and_says_of_which_machine_and_why(
    world: World, id: str, indaco: Indaco
) -> None:
    waiting = asyncio.create_task(indaco("deployment", "stop", "pair", "--wait", "--timeout", "20s"))
    await is_asked(world)
    await world.say(stopped(id), refused(id, 1, "server-1"))
    done = await waiting
    assert (done.exit_code, done.stdout) == (8, "")
    assert done.stderr.splitlines()[-2:] == [
        f"error: {id}: not all could be stopped",
        "  why: server-1 is STARTED: no machine stops here",
    ]


async def test_a_wait_that_is_too_short_ends_with_7_and_what_is_still_to_come(
    world: World, id: str, indaco: Indaco
) -> None:
    done = await indaco("deployment", "stop", "pair", "--wait", "--timeout", "0.5")
    assert done.exit_code == 7
    assert "server-0 is still STOPPING, server-1 is still STOPPING after 0.5 s" in done.stderr
    assert f"try: indaco resource list {id}" in done.stderr


async def test_a_name_that_is_none_is_told_with_those_that_are(id: str, indaco: Indaco) -> None:
    done = await indaco("deployment", "stop", "pair", "agent-0")
    assert done.exit_code == 6
    assert "resources/0: 'agent-0' is not there; there are: server-0, server-1" in done.stderr


async def test_ssh_says_that_a_machine_stands_still_and_how_to_start_it(world: World, id: str, indaco: Indaco) -> None:
    await world.say(stopped(id))
    done = await indaco("ssh", "pair", "server-0", "--print")
    assert done.exit_code == 5
    assert done.stderr.splitlines() == [
        "error: server-0 is STOPPED: nobody answers there",
        "  try: indaco deployment start ID server-0 --wait",
    ]
    assert (await indaco("ssh", "pair", "server-1", "--print")).stdout == "ssh://192.0.2.1:22\n"


async def test_the_client_asks_once_for_no_machine_of_a_list_that_is_empty(world: World, id: str) -> None:
    async with Client(world.url, world.issuer.token()) as client:
        with pytest.raises(Exception, match="at least 1 item"):
            await client.act(id, "stop", [])
        machines = await client.act(id, "stop", ["server-0"])
        assert [each["state"] for each in machines] == ["STOPPING"]
        assert [each["state"] for each in await client.act(id, "stop", ["server-0"])] == ["STOPPING"]
        with pytest.raises(TimedOut, match=r"server-0 is still STOPPING after 0\.2 s"):
            await client.wait_for_action(id, "stop", ["server-0"], timeout_s=0.2)
        await world.say(refused(id, 1))
        with pytest.raises(ActionFailed, match="no machine stops here"):
            await client.wait_for_action(id, "stop", ["server-0"], timeout_s=5)
    assert await asked(world) == [(1, "stop", ("server-0",))]
