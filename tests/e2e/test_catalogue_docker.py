"""The catalogue's machine, container, compose project and Jupyter on a real engine, used as their users would: by HTTP and SSH."""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from indaco_client import Client

from .worlds import GONE, ROOT, MakeFederation, World

pytestmark = [pytest.mark.docker, pytest.mark.asyncio(loop_scope="module")]
ADDRESS = os.environ.get("INDACO_TEST_DOCKER", "unix:///var/run/docker.sock")
MACHINE = os.environ.get("INDACO_TEST_VM_IMAGE", "indaco/vm:12")
IMAGES = (MACHINE, "indaco/hello:1", "indaco/jupyter:1")
DEBIAN = {"os_distribution": "debian", "os_version": 12, "mem_size": "512 MB", "num_cpus": 1}
TOKEN = "a-token-that-only-ada-knows"
HOST = f"""
providers:
  - id: HOST
    kind: docker
    endpoint: "docker:{ADDRESS}?image={MACHINE}&engine=shared&cpu_ratio=16"
    regions: [here]
    images:
      - {{name: "{MACHINE}", distribution: debian, version: "12"}}
agreements:
  - id: cms-here
    group: {{issuer: "${{INDACO_ISSUER}}", path: cms}}
    provider: HOST
    region: here
    project: cms
    limits: {{instances: 6, cpu_milli: 12000, memory_mib: 16384, disk_gib: 400, public_ips: 6}}
    valid_from: 2026-01-01T00:00:00Z
    valid_to: 2096-01-01T00:00:00Z
"""
TALKING = """
services:
  front:
    image: indaco/hello:1
    restart: unless-stopped
    environment: {GREETING: "${WELCOME}", UPSTREAM: "back:9000"}
    ports: ["80:80"]
    depends_on: [back]
  back:
    image: indaco/hello:1
    restart: unless-stopped
    environment: [GREETING=from the back, PORT=9000]
    volumes: ["kept:/kept"]
volumes:
  kept:
"""


def docker(*arguments: str) -> str:
    environment = {**os.environ, "DOCKER_HOST": ADDRESS}
    done = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True, env=environment)
    return done.stdout


def in_engine() -> dict[str, set[str]]:
    """Return every container of ours, and every volume and network."""
    containers = [
        docker("ps", "--all", "--quiet", "--filter", f"label={label}") for label in ("indaco.key", "indaco.machine")
    ]
    return {
        "containers": set(" ".join(containers).split()),
        "volumes": set(docker("volume", "ls", "--quiet").split()),
        "networks": set(docker("network", "ls", "--quiet").split()),
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(make_federation: MakeFederation) -> AsyncIterator[Client]:
    if not ADDRESS.startswith("unix://"):
        pytest.skip(f"the Docker Engine at {ADDRESS} cannot be shared: it must be named by its socket")
    try:
        docker("image", "inspect", *IMAGES)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(
            f"no Docker Engine at {ADDRESS} with {', '.join(IMAGES)}: run deploy/local/docker.sh start ({error})"
        )
    federation = make_federation(federation=HOST)
    try:
        await federation.start()
        async with World(federation).client() as client:
            yield client
    finally:
        await federation.stop()


@asynccontextmanager
async def deployed(client: Client, name: str, inputs: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Deploy the newest version of a template of the catalogue; yield its outputs; delete it and see that nothing is left."""
    before = in_engine()
    (*_, newest) = sorted((ROOT / "catalogue" / name).glob("*/template.yaml"))
    id = (await client.create(newest.read_text(), inputs, group="cms"))["id"]
    try:
        running = await client.wait(id, timeout_s=90)
        assert (running["status"], running["provider"]) == ("CREATE_COMPLETE", "HOST"), running
        yield await client.outputs(id)
    finally:
        await client.delete(id)
        await client.wait(id, timeout_s=90, until=GONE)
    assert in_engine() == before


async def got(url: str, *, within_s: float = 60, **headers: str) -> str:
    """Return what a GET answers, once it does with 200."""
    async with asyncio.timeout(within_s), aiohttp.ClientSession(headers=headers) as http:
        while True:
            try:
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return await answer.text()
            except aiohttp.ClientError:
                pass  # what listens there is not up yet
            await asyncio.sleep(0.2)


async def on(endpoint: str, user: str, identity: Path, command: str) -> str:
    """Return what *command* prints on a machine, over SSH."""
    where = re.fullmatch(r"ssh://([^:]+):(\d+)", endpoint)
    assert where is not None, endpoint
    options = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes")
    process = await asyncio.create_subprocess_exec(
        "ssh", "-i", identity, "-p", where[2], *options, f"{user}@{where[1]}", command,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_a_virtual_machine_is_logged_into_with_the_users_own_key(client: Client, tmp_path: Path) -> None:
    identity = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", identity], check=True)
    ada = {"os_user_name": "ada", "os_user_ssh_public_key": identity.with_suffix(".pub").read_text().strip()}
    async with deployed(client, "virtual-machine", {**DEBIAN, "users": [ada], "hostname": "lab"}) as outputs:
        assert (await on(outputs["ssh_endpoint"], "ada", identity, "hostname; sudo id -un")).split() == ["lab", "root"]


async def test_a_container_answers_at_the_port_of_its_machine_that_it_was_published_at(client: Client) -> None:
    inputs = {
        "docker_image": "indaco/hello",
        "docker_tag": "1",
        "docker_ports": ["80:8000"],
        "environment_variables": [{"PORT": "8000"}, {"GREETING": "good morning, it's $5"}],
    }
    async with deployed(client, "docker-run", {**DEBIAN, **inputs}) as outputs:
        assert await got(outputs["endpoint"]) == "good morning, it's $5\n"


async def test_the_services_of_a_compose_project_reach_each_other_by_name(client: Client) -> None:
    inputs = {"compose_file": TALKING, "environment_variables": [{"WELCOME": "from the front"}], "volume_size": "0 GB"}
    async with deployed(client, "docker-compose", {**DEBIAN, **inputs}) as outputs:
        assert await got(outputs["endpoint"]) == "from the front, from the back\n"


async def test_jupyter_takes_the_token_alone_and_keeps_a_notebook(client: Client) -> None:
    inputs = {"image": "indaco/jupyter:1", "jupyter_token": TOKEN, "volume_size": "0 GB"}
    async with deployed(client, "jupyter", {**DEBIAN, "mem_size": "1 GB", **inputs}) as outputs:
        api = outputs["jupyter_endpoint"] + "api/"
        mine = {"Authorization": f"token {TOKEN}"}
        assert json.loads(await got(api + "status", **mine))["kernels"] == 0
        async with aiohttp.ClientSession() as stranger, stranger.get(api + "contents") as answer:
            assert answer.status == 403
        async with aiohttp.ClientSession(headers=mine) as ada:
            note = {"type": "file", "format": "text", "content": "eureka"}
            async with ada.put(api + "contents/note.txt", json=note) as answer:
                assert answer.status == 201, await answer.text()
        assert json.loads(await got(api + "contents/note.txt", **mine))["content"] == "eureka"
