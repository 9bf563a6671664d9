"""Nodes that are containers by their template, on the Docker driver: what the engine is told, and one that runs."""

import asyncio
import os
import subprocess
from dataclasses import replace

import aiohttp
import pytest

from indaco_common.contracts.values import Place, PortRule
from indaco_common.errors import SpecRejected
from indaco_common.ids import uuid7
from indaco_common.units import ResourceVector
from indaco_orchestrator.drivers.docker import DockerDriver
from indaco_orchestrator.drivers.docker_container import container_body
from indaco_orchestrator.drivers.port import NodeKey, NodeSpec

ADDRESS = os.environ.get("INDACO_TEST_DOCKER", "unix:///var/run/docker.sock")
HELLO = "indaco/hello:1"
KEY = NodeKey("0190f7c1", 1, "app-0")
SPEC = NodeSpec(
    needs=ResourceVector(instances=1, cpu_milli=250, memory_mib=64), kind="container", image=HELLO,
    ports=(PortRule(port=8000),), environment={"PORT": "8000", "GREETING": "a=b  $c"},
)  # fmt: skip
PLACE = Place(
    provider="h", kind="docker", endpoint=f"docker:{ADDRESS}?cpu_ratio=64&engine=shared", region="r", project="p", agreement="a"
)  # fmt: skip


def test_a_container_has_its_own_environment_and_command_and_no_ssh() -> None:
    body = container_body(KEY, replace(SPEC, command=("serve", "--all")), HELLO)
    assert body["Env"] == ["PORT=8000", "GREETING=a=b  $c"]
    assert body["Cmd"] == ["serve", "--all"]
    assert list(body["ExposedPorts"]) == ["8000/tcp"]
    assert body["Labels"]["indaco.kind"] == "container"
    assert body["HostConfig"]["SecurityOpt"] == ["no-new-privileges"]
    assert "Cmd" not in container_body(KEY, SPEC, HELLO)


@pytest.mark.parametrize("environment", [{"A B": ""}, {"": "a"}, {"A=B": "c"}, {"A\n": "c"}, {"A": "x" * 70_000}])
def test_an_environment_that_no_process_can_have_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(SpecRejected):
        container_body(KEY, replace(SPEC, environment=environment), HELLO)


def test_a_variable_with_a_nul_is_refused_without_its_value() -> None:
    with pytest.raises(SpecRejected, match="the variable DB_PASSWORD has a NUL") as refusal:
        container_body(KEY, replace(SPEC, environment={"DB_PASSWORD": "hunter2\0"}), HELLO)
    assert "hunter2" not in refusal.value.detail


async def test_a_container_without_an_image_is_refused_before_the_engine_is_asked() -> None:
    driver = await DockerDriver.open(PLACE.model_copy(update={"endpoint": "docker:unix:///nowhere.sock"}))
    with pytest.raises(SpecRejected, match="no image"):
        await driver._make(KEY, replace(SPEC, image=""))
    await driver.close()


async def answer_at(http: aiohttp.ClientSession, port: int) -> str:
    """Return what the port answers, once it does."""
    while True:
        try:
            async with http.get(f"http://127.0.0.1:{port}/") as answer:
                return await answer.text()
        except aiohttp.ClientError:
            await asyncio.sleep(0.1)


@pytest.mark.docker
async def test_a_container_runs_and_answers_without_a_machine_around_it_also_after_a_stop() -> None:
    driver = await DockerDriver.open(PLACE)
    try:
        subprocess.run(["docker", "image", "inspect", HELLO], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no Docker Engine at {ADDRESS} with {HELLO}: run deploy/local/docker.sh start ({error})")
    id = await driver.create(NodeKey(str(uuid7()), 1, "app-0"), SPEC, {})
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as http:
            while (state := await driver.describe(id, {})).phase != "running":
                await asyncio.sleep(0.1)
            assert list(state.ports) == [8000]
            assert await answer_at(http, state.ports[8000]) == "a=b  $c\n"
            await driver.stop(id, {})
            assert (await driver.describe(id, {})).phase == "stopped"
            await driver.start(id, {})
            state = await driver.describe(id, {})
            assert state.phase == "running"
            assert await answer_at(http, state.ports[8000]) == "a=b  $c\n"
    finally:
        await driver.delete(id, {})
    assert (await driver.describe(id, {})).phase == "absent"
    await driver.close()
