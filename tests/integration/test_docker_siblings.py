"""Containers beside a machine of the Docker driver, on a real engine: what they may, where they answer, and that they go with the machine."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from indaco_common.contracts.values import Place, PortRule
from indaco_common.errors import SpecRejected, Unavailable
from indaco_common.ids import uuid7
from indaco_common.units import ResourceVector
from indaco_orchestrator.drivers.docker import DockerDriver
from indaco_orchestrator.drivers.port import NodeKey, NodeSpec, ResourceId

pytestmark = pytest.mark.docker
ADDRESS = os.environ.get("INDACO_TEST_DOCKER", "unix:///var/run/docker.sock")
MACHINE = os.environ.get("INDACO_TEST_VM_IMAGE", "indaco/vm:12")
HELLO = "indaco/hello:1"
MEMORY_MIB = 256
SPEC = NodeSpec(
    needs=ResourceVector(instances=1, cpu_milli=250, memory_mib=MEMORY_MIB),
    ports=(PortRule(port=80), PortRule(port=8080)),
)
PROJECT = """
services:
  front: {image: "indaco/hello:1", environment: {PORT: 8080, UPSTREAM: "back:$PORT"}, ports: ["8080:8080"], depends_on: [back]}
  back: {image: "indaco/hello:1", environment: {PORT: "$PORT", GREETING: "it's back"}, volumes: ["kept:/kept", "/data:/data"]}
volumes: {kept: }
"""


def docker(*arguments: str) -> str:
    """Return what the command prints. Raises: CalledProcessError."""
    environment = {**os.environ, "DOCKER_HOST": ADDRESS}
    done = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True, env=environment)
    return done.stdout


def papers(id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("inspect", id))[0]
    return found


def in_engine() -> tuple[set[str], set[str]]:
    """Return every container of ours and every volume."""
    containers = [
        docker("ps", "--all", "--quiet", "--filter", f"label={label}") for label in ("indaco.key", "indaco.machine")
    ]
    return set(" ".join(containers).split()), set(docker("volume", "ls", "--quiet").split())


def place(options: str = "engine=shared", address: str = ADDRESS) -> Place:
    endpoint = f"docker:{address}?image={MACHINE}&cpu_ratio=64&{options}"
    return Place(provider="h", kind="docker", endpoint=endpoint, region="r", project="p", agreement="a")


class Machine:
    """A machine that runs, and its user at a root shell."""

    def __init__(self, driver: DockerDriver, spec: NodeSpec = SPEC) -> None:
        self.driver = driver
        self.spec = spec
        self.key = NodeKey(str(uuid7()), 1, "server-0")
        self.id = ResourceId("")
        self.ports: dict[int, int] = {}

    async def start(self) -> None:
        self.id = await self.driver.create(self.key, self.spec, {})
        await self.until_running()

    async def until_running(self) -> None:
        async with asyncio.timeout(30):
            while (state := await self.driver.describe(self.id, {})).phase != "running":
                await asyncio.sleep(0.1)
        self.ports = dict(state.ports)

    def shell(self, script: str, *, user: str = "root") -> str:
        return docker("exec", "--user", user, self.id, "sh", "-ec", script)

    def docker(self, command: str) -> str:
        """Return what the machine's own command `docker` says; wait for its mediator first."""
        return self.shell(f"until docker info >/dev/null 2>&1; do sleep 0.1; done; docker {command}")

    async def got(self, port: int) -> str:
        """Return what the machine's *port* answers, once it does."""
        async with asyncio.timeout(20), aiohttp.ClientSession() as http:
            while True:
                try:
                    async with http.get(f"http://127.0.0.1:{self.ports[port]}/") as answer:
                        return await answer.text()
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    """A machine; once it is deleted, the engine must have what it had before."""
    if not ADDRESS.startswith("unix://"):
        pytest.skip(f"the Docker Engine at {ADDRESS} cannot be shared: it must be named by its socket")
    try:
        docker("image", "inspect", MACHINE, HELLO)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(
            f"no Docker Engine at {ADDRESS} with {MACHINE} and {HELLO}: run deploy/local/docker.sh start ({error})"
        )
    before = in_engine()
    machine = Machine(await DockerDriver.open(place()))
    try:
        await machine.start()
        yield machine
    finally:
        await machine.driver.delete(machine.id, {})
        await machine.driver.close()
    assert in_engine() == before


async def test_a_container_answers_at_the_machines_port_and_shares_its_data(machine: Machine) -> None:
    options = "--publish 80:8000 --env PORT=8000 --env 'GREETING=a  b$c' --volume /data:/shared --volume kept:/kept"
    machine.docker(f"run --detach --restart unless-stopped --name web {options} {HELLO}")
    assert await machine.got(80) == "a  b$c\n"
    machine.shell("echo 'from the machine' > /data/note")
    (id,) = docker(
        "ps", "--quiet", "--filter", f"label=indaco.machine={machine.id}", "--filter", "label=indaco.container"
    ).split()
    assert docker("exec", id, "cat", "/shared/note") == "from the machine\n"
    assert "web" in machine.docker("ps")
    machine.docker("rm --force web")
    assert machine.docker("ps").strip() == ""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await machine.got(80)


async def test_a_compose_project_is_up_again_and_down(machine: Machine) -> None:
    machine.shell(f"mkdir /opt/p; cd /opt/p; echo PORT=9000 > .env; cat > compose.yaml <<'END'\n{PROJECT}\nEND")
    machine.docker("info")
    for _ in range(2):  # a first boot may be repeated
        machine.shell("cd /opt/p; docker compose --project-name p up --detach")
        assert await machine.got(8080) == "hello, it's back\n"
    assert machine.shell("grep -cw back /etc/hosts") == "1\n"
    assert "GET / HTTP/1.1" in machine.docker("logs p-front-1")
    machine.shell("cd /opt/p; docker compose --project-name p down")
    assert machine.docker("ps").strip() == ""


async def test_a_container_has_no_more_than_its_machine_and_counts_in_no_capacity(machine: Machine) -> None:
    before = (await machine.driver.capacity({})).used
    id = machine.docker(f"run --detach --name web {HELLO}").strip()
    host = papers(id)["HostConfig"]
    assert (host["Memory"], host["NanoCpus"]) == (MEMORY_MIB * 2**20, 250_000_000)
    assert host["NetworkMode"] == f"container:{machine.id}"
    assert (await machine.driver.capacity({})).used == before


async def test_a_container_whose_image_claims_to_be_a_machine_is_taken_for_none(machine: Machine) -> None:
    key, before = NodeKey(str(uuid7()), 1, "server-0"), (await machine.driver.capacity({})).used
    labels = ("--change", f"LABEL indaco.key={key} indaco.cpu-milli=1000 indaco.machine=other")
    docker("commit", *labels, machine.id, "indaco/claim:1")
    try:
        id = machine.docker("run --detach --name web --entrypoint /usr/bin/sleep indaco/claim:1 1000").strip()
        assert papers(id)["Config"]["Labels"]["indaco.key"] == str(key)
        assert await machine.driver.find(key, {}) is None
        assert (await machine.driver.capacity({})).used == before
        machine.docker("rm --force web")
    finally:
        docker("image", "rm", "--force", "indaco/claim:1")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (f"run --detach --name web --volume /etc:/etc {HELLO}", "only /data can be shared, not '/etc'"),
        (f"run --detach --name web --volume /var/run/docker.sock:/s {HELLO}", "only /data can be shared"),
        (f"run --detach --name web --publish 22:80 {HELLO}", "port 22 is taken"),
        ("run --detach --name web nowhere.invalid/no/image:1", "container engine says"),
        ("rm web", "there is no container web"),
    ],
)
async def test_what_a_machine_may_not_have_is_refused_and_leaves_nothing(
    machine: Machine, command: str, reason: str
) -> None:
    before = in_engine()
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        machine.docker(command)
    assert reason in refusal.value.stderr
    assert in_engine() == before


async def test_the_engine_itself_is_out_of_the_machines_reach(machine: Machine) -> None:
    assert machine.docker("info").startswith("Server Version")
    assert (
        machine.shell("find / -xdev -type s -name 'docker*'; find /run /var/run -type s")
        == "/run/engine/mediator.sock\n"
    )
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        machine.shell("docker info", user="daemon")
    assert "only root may ask" in refusal.value.stderr
    asked = json.dumps({"do": "run", "name": "web", "image": HELLO, "HostConfig": {"Privileged": True}})
    program = f"""
import socket
door = socket.socket(socket.AF_UNIX)
door.connect("/run/engine/mediator.sock")
door.sendall({asked.encode()!r} + b"\\n")
print(door.recv(1000).decode())
"""
    assert "a container here has no HostConfig" in machine.shell(f"python3 - <<'END'{program}END")


async def test_a_mediator_that_ended_forwards_again_once_it_is_back(machine: Machine) -> None:
    machine.docker(f"run --detach --name web --publish 80:8000 --env PORT=8000 {HELLO}")
    docker("restart", "--time", "0", f"indaco-mediator-{machine.id[:12]}")
    assert await machine.got(80) == "hello\n"


async def test_a_machine_that_was_started_again_has_its_containers_again(machine: Machine) -> None:
    machine.docker(f"run --detach --restart unless-stopped --name one --publish 80:8000 --env PORT=8000 {HELLO}")
    machine.docker(f"run --detach --restart unless-stopped --name two --env PORT=8080 {HELLO}")
    docker("restart", "--time", "0", machine.id)
    await machine.until_running()
    assert [await machine.got(port) for port in (80, 8080)] == ["hello\n", "hello\n"]


async def test_what_a_machine_had_made_stops_and_starts_with_it(machine: Machine) -> None:
    machine.docker(f"run --detach --restart unless-stopped --name one --publish 80:8000 --env PORT=8000 {HELLO}")
    machine.docker(f"run --detach --restart unless-stopped --name two --env PORT=8080 {HELLO}")
    assert len(running_beside(machine)) == 3  # these and the mediator
    await machine.driver.stop(machine.id, {})
    assert (await machine.driver.describe(machine.id, {})).phase == "stopped"
    assert running_beside(machine) == set()
    await machine.driver.start(machine.id, {})
    await machine.until_running()
    assert [await machine.got(port) for port in (80, 8080)] == ["hello\n", "hello\n"]
    assert len(running_beside(machine)) == 3


def running_beside(machine: Machine) -> set[str]:
    return set(docker("ps", "--quiet", "--filter", f"label=indaco.machine={machine.id}").split())


async def test_a_mediator_that_another_process_starts_while_its_machine_stops_is_stopped_too(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    siblings, other, seen = machine.driver._siblings, await DockerDriver.open(place()), []
    stop = siblings.stop

    async def stop_and_be_looked_at(id: ResourceId) -> bool:
        ran = await stop(id)
        seen.append((await other.describe(id, {})).phase)
        return ran

    with monkeypatch.context() as race:
        race.setattr(siblings, "stop", stop_and_be_looked_at)
        await machine.driver.stop(machine.id, {})
    await other.close()
    assert seen == ["running", "stopped"]
    assert running_beside(machine) == set()


async def test_a_creation_that_died_before_the_mediator_is_finished_by_looking_at_the_machine(machine: Machine) -> None:
    docker("rm", "--force", f"indaco-mediator-{machine.id[:12]}")
    driver = machine.driver
    machine.driver = await DockerDriver.open(place())  # another process: it remembers nothing
    await driver.close()
    await machine.until_running()
    assert machine.docker("info").startswith("Server Version")


async def test_what_a_machine_left_goes_even_if_the_machine_went_first(machine: Machine) -> None:
    machine.docker(f"run --detach --name web --volume kept:/kept {HELLO}")
    docker("rm", "--force", "--volumes", machine.id)
    await machine.driver.delete(machine.id, {})
    await machine.driver.delete(machine.id, {})


@pytest.mark.parametrize("look", ["find", "describe"])
async def test_what_a_machine_left_goes_once_somebody_looks_for_the_machine(machine: Machine, look: str) -> None:
    machine.docker(f"run --detach --name web --volume kept:/kept --volume /data:/data {HELLO}")
    docker("rm", "--force", "--volumes", machine.id)
    others = {id for id in in_engine()[0] if papers(id)["Config"]["Labels"]["indaco.machine"] == machine.id}
    assert len(others) == 2
    if look == "find":
        assert await machine.driver.find(machine.key, {}) is None
    else:
        assert (await machine.driver.describe(machine.id, {})).phase == "absent"
    assert not others & in_engine()[0]
    assert docker("volume", "ls", "--quiet", "--filter", f"label=indaco.machine={machine.id}") == ""


@contextmanager
def image(tmp_path: Path, *changes: str) -> Iterator[str]:
    """A user's image, made from the machine image, with a mediator of their own in place of the true one."""
    name, program = "indaco/own:1", tmp_path / "mediator.py"
    program.write_text("#!/usr/bin/python3\nimport time\nprint('mine')\ntime.sleep(1000)\n")
    program.chmod(0o755)
    made = docker("create", MACHINE).strip()
    try:
        docker("cp", str(program), f"{made}:/usr/local/lib/indaco/mediator.py")
        docker("commit", *(word for change in changes for word in ("--change", change)), made, name)
        yield name
    finally:
        docker("rm", "--force", "--volumes", made)
        docker("image", "rm", "--force", name)


async def test_a_volume_of_a_users_image_is_not_what_runs_with_the_engines_socket(
    machine: Machine, tmp_path: Path
) -> None:
    with image(tmp_path, "VOLUME /usr/local/lib/indaco", "VOLUME /usr/bin") as name:
        other = Machine(machine.driver, replace(SPEC, image=name))
        try:
            await other.start()
            assert "mine" in other.shell("cat /usr/local/lib/indaco/mediator.py")
            mediator = f"indaco-mediator-{other.id[:12]}"
            mounted = {mount["Destination"] for mount in papers(mediator)["Mounts"]}
            assert mounted == {"/run/engine", "/run/docker.sock"}
            assert "mine" not in docker("exec", mediator, "cat", "/usr/local/lib/indaco/mediator.py")
            assert other.docker("info").startswith("Server Version")
        finally:
            await other.driver.delete(other.id, {})


async def test_a_users_image_that_asks_for_a_mediator_gets_none_where_the_engine_is_not_shared(
    machine: Machine, tmp_path: Path
) -> None:
    del machine
    with image(tmp_path, "VOLUME /run/engine") as name:
        other = Machine(await DockerDriver.open(place("engine=none")), replace(SPEC, image=name))
        try:
            await other.start()
            with pytest.raises(subprocess.CalledProcessError, match="returned non-zero"):
                papers(f"indaco-mediator-{other.id[:12]}")
        finally:
            await other.driver.delete(other.id, {})
            await other.driver.close()


async def test_an_image_that_is_not_made_for_it_is_no_machine_where_the_engine_is_shared(
    machine: Machine, tmp_path: Path
) -> None:
    before = in_engine()
    with image(tmp_path, "LABEL dev.indaco.vm-image=") as name:
        for unfit in (name, "nowhere.invalid/no/image:1"):
            with pytest.raises(SpecRejected, match=r"label dev\.indaco\.vm-image"):
                await machine.driver.create(NodeKey(str(uuid7()), 1, "server-0"), replace(SPEC, image=unfit), {})
    assert in_engine() == before


async def test_labels_of_a_users_image_do_not_hide_a_machine(machine: Machine, tmp_path: Path) -> None:
    before = (await machine.driver.capacity({})).used["instances"]
    with image(tmp_path, "LABEL indaco.machine=other indaco.kind=container") as name:
        other = Machine(machine.driver, replace(SPEC, image=name))
        try:
            await other.start()
            assert await machine.driver.find(other.key, {}) == other.id
            assert (await machine.driver.capacity({})).used["instances"] == before + 1
            assert other.docker("info").startswith("Server Version")
        finally:
            await other.driver.delete(other.id, {})


async def test_a_place_that_does_not_share_its_engine_makes_machines_without_it(machine: Machine) -> None:
    other = Machine(await DockerDriver.open(place("engine=none")))
    try:
        await other.start()
        assert other.shell("ls /run/engine /usr/local/bin/docker 2>&1 || true").count("No such file") == 2
    finally:
        await other.driver.delete(other.id, {})
        await other.driver.close()


async def test_an_engine_that_is_reached_by_a_port_cannot_be_shared() -> None:
    with pytest.raises(Unavailable, match="must name a socket"):
        await DockerDriver.open(place(address="tcp://127.0.0.1:2375"))
