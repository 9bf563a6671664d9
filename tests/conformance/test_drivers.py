"""The driver conformance suite on every installed driver, each at a real place of its kind; and SSH into a Docker machine."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import aiohttp
import pytest

from indaco_common.contracts.values import Place, PortRule
from indaco_common.simulation import Site, parse_endpoint
from indaco_common.testing.conformance_driver import DriverConformance, SiteUnderTest
from indaco_common.units import ResourceVector
from indaco_orchestrator.drivers import simulated_site
from indaco_orchestrator.drivers.port import NodeKey, NodeSpec, Phase, ProviderDriver
from indaco_vault_broker.issuers import Issuers

SMALL = NodeSpec(needs=ResourceVector(instances=1, cpu_milli=250, memory_mib=128))
KINDS = sorted(entry.name for entry in entry_points(group="indaco.drivers"))
OPTIONS = {"simulated": "boot_s=0.1&capacity=50&images=debian-12", "docker": "cpu_ratio=64"}
SILENT = {"simulated": "simulated:{folder}?down=true", "docker": "docker:unix://{folder}/nothing.sock"}


def driver_class(kind: str) -> type[ProviderDriver]:
    (entry,) = entry_points(group="indaco.drivers", name=kind)
    loaded: type[ProviderDriver] = entry.load()
    return loaded


def docker_endpoint() -> str:
    """Return the engine's endpoint, or skip: no engine, or no image of a machine in it."""
    address = os.environ.get("INDACO_TEST_DOCKER", "unix:///var/run/docker.sock")
    image = os.environ.get("INDACO_TEST_VM_IMAGE", "indaco/vm:12")

    async def look() -> int:
        connector = aiohttp.UnixConnector(address.removeprefix("unix://"))
        url = f"http://docker/images/{image}/json"
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as answer:
            return answer.status

    try:
        status = asyncio.run(look())
    except (aiohttp.ClientError, OSError) as error:
        pytest.skip(f"no Docker Engine answers at {address}: {error}")
    if status != 200:
        pytest.skip(f"the Docker Engine has no image {image}: run deploy/docker/vm-image.sh")
    return f"docker:{address}?image={image}&{OPTIONS['docker']}"


def place_of(kind: str, endpoint: str) -> Place:
    return Place(
        provider="conformance",
        kind=kind,
        endpoint=endpoint,
        region="one",
        project="tests",
        agreement="a",
        simulated=kind == "simulated",
    )


@pytest.fixture(
    scope="module", params=[pytest.param(k, marks=pytest.mark.docker if k == "docker" else ()) for k in KINDS]
)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    kind = request.param
    if kind == "simulated":
        return place_of(kind, f"simulated:{tmp_path_factory.mktemp('site')}?{OPTIONS[kind]}")
    if kind == "docker":
        return place_of(kind, docker_endpoint())
    described = os.environ.get(f"INDACO_TEST_PLACE_{kind.upper()}")
    if described is None:
        pytest.skip(f"INDACO_TEST_PLACE_{kind.upper()} names no place to try the driver at")
    return Place.model_validate_json(described)


def counter(place: Place) -> Callable[[NodeKey], Awaitable[int]]:
    """Return what counts the resources of a key without the driver's help."""

    async def in_books(key: NodeKey) -> int:
        site = Site(parse_endpoint(place.endpoint, place.provider)[0])
        try:
            return sum(machine.key == str(key) for machine in site.transact(simulated_site.machines))
        finally:
            site.close()

    async def in_engine(key: NodeKey) -> int:
        socket = place.endpoint.removeprefix("docker:unix://").partition("?")[0]
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket)) as session:
            query = {"all": "1", "filters": json.dumps({"label": [f"indaco.node={key.node}"]})}
            async with session.get("http://docker/containers/json", params=query) as answer:
                return sum(c["Labels"]["indaco.key"] == str(key) for c in await answer.json())

    return in_books if place.kind == "simulated" else in_engine


def refused(place: Place, good: Mapping[str, str], revoked: Mapping[str, str]) -> tuple[Mapping[str, str], ...]:
    if place.kind != "simulated":
        return ()
    forged = {**good, "token": good["token"][:-1] + ("0" if good["token"][-1] != "0" else "1")}
    return ({}, {"token": "nonsense"}, forged, revoked)


class NoSecrets:
    """A vault in which no operator has put anything for a provider."""

    async def get(self, _: str) -> None:
        return None


@pytest.fixture
async def site(place: Place, tmp_path: Path) -> AsyncIterator[SiteUnderTest]:
    silent_place = place.model_copy(update={"endpoint": SILENT[place.kind].format(folder=tmp_path)})
    driver, silent = await driver_class(place.kind).open(place), await driver_class(place.kind).open(silent_place)
    issuers = Issuers(NoSecrets())  # type: ignore[arg-type]
    issuer = issuers.issuer_for(place)
    credential = (await issuer.issue(place, "conformance/1/1", 600)).secret
    revoked = (await issuer.issue(place, f"{tmp_path}/1", 600)).secret
    await issuer.revoke(place, f"{tmp_path}/1")
    spec = replace(SMALL, image="debian-12" if place.kind == "simulated" else "")
    yield SiteUnderTest(
        driver=driver,
        silent=silent,
        credential=credential,
        key=NodeKey,
        spec=spec,
        huge=replace(spec, needs=ResourceVector(instances=1, cpu_milli=1_000_000, memory_mib=2**30)),
        impossible=replace(spec, image="no-such-image:0"),
        count=counter(place),
        boot_s=20.0,
        reopen=lambda: driver_class(place.kind).open(place),
        refused_credentials=refused(place, credential, revoked),
    )
    await silent.close()
    await driver.close()
    await issuers.close()


class TestDriver(DriverConformance):
    """Everything of the suite, once for each kind."""


@pytest.fixture
async def docker_site(tmp_path: Path) -> AsyncIterator[SiteUnderTest]:
    place = place_of("docker", await asyncio.to_thread(docker_endpoint))
    driver = await driver_class("docker").open(place)
    yield SiteUnderTest(
        driver=driver,
        silent=driver,
        credential={},
        key=NodeKey,
        spec=SMALL,
        huge=SMALL,
        impossible=SMALL,
        count=counter(place),
        boot_s=20.0,
        reopen=lambda: driver_class(place.kind).open(place),
    )
    await driver.close()


@pytest.mark.docker
class TestDockerMachine:
    @pytest.fixture(autouse=True)
    async def _nothing_is_left(self, docker_site: SiteUnderTest) -> AsyncIterator[None]:
        yield
        for key in docker_site.made:
            id = await docker_site.driver.find(key, {})
            if id is not None:
                await docker_site.driver.delete(id, {})

    async def test_a_fresh_key_opens_a_shell_with_sudo_and_user_data_has_run(
        self, docker_site: SiteUnderTest, tmp_path: Path
    ) -> None:
        key_file, public = new_key_pair(tmp_path)
        spec = replace(
            SMALL,
            user="ada",
            hostname="web.example",
            ssh_keys=("ssh-ed25519 AAAAC3Nz other", public),
            user_data="echo ready > /root/told",
        )
        id = await docker_site.driver.create(docker_site.new_key(), spec, {})
        state = await docker_site.until(id, "running")
        assert state.public_addresses == ("127.0.0.1",)
        told = "for n in $(seq 50); do sudo cat /root/told 2>/dev/null && break; sleep 0.1; done"
        answer = await ssh(key_file, state.ports[22], "ada", f"hostname; id -un; sudo id -un; {told}")
        assert answer.split() == ["web-example", "ada", "root", "ready"]

    async def test_limits_are_in_force_and_ports_are_published_on_loopback_alone(
        self, docker_site: SiteUnderTest
    ) -> None:
        ports = (PortRule(port=8080), PortRule(port=5000, port_end=5002), PortRule(port=53, protocol="udp"))
        id = await docker_site.driver.create(docker_site.new_key(), replace(SMALL, ports=ports), {})
        state = await docker_site.until(id, "running")
        assert list(state.ports) == [22, 53, 5000, 5001, 5002, 8080]
        papers = json.loads(subprocess.run(["docker", "inspect", id], check=True, capture_output=True).stdout)[0]
        host = papers["HostConfig"]
        assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (250_000_000, 128 * 2**20, 128 * 2**20)
        bound = {binding["HostIp"] for bindings in papers["NetworkSettings"]["Ports"].values() for binding in bindings}
        assert bound == {"127.0.0.1"}

    async def test_a_stopped_machine_is_stopped_found_and_deletable(self, docker_site: SiteUnderTest) -> None:
        key = docker_site.new_key()
        id = await docker_site.create(key)
        subprocess.run(["docker", "stop", "-t", "1", id], check=True, capture_output=True)
        assert await docker_site.phase_of(id) == "stopped"
        assert await docker_site.driver.find(key, {}) == id
        assert await docker_site.create(key) == id
        assert await docker_site.phase_of(id) == "stopped"

    async def test_a_machine_that_was_stopped_lets_its_user_in_again_and_has_run_its_user_data_once(
        self, docker_site: SiteUnderTest, tmp_path: Path
    ) -> None:
        key_file, public = new_key_pair(tmp_path)
        user_data = "echo ran >> /root/told; echo kept > /home/debian/note"
        spec = replace(SMALL, ssh_keys=(public,), user_data=user_data)
        id = await docker_site.driver.create(docker_site.new_key(), spec, {})
        state = await docker_site.until(id, "running")
        done = "until sudo test -e /var/lib/vm-init/user-data.status; do sleep 0.1; done"
        await ssh(key_file, state.ports[22], "debian", done)
        for _ in range(2):
            await docker_site.driver.stop(id, {})
            stopped = await docker_site.until(id, "stopped")
            assert (stopped.public_addresses, stopped.ports) == ((), {})
            await docker_site.driver.start(id, {})
            state = await docker_site.until(id, "running")
            answer = await ssh(key_file, state.ports[22], "debian", "sleep 0.5; cat note; sudo cat /root/told")
            assert answer.split() == ["kept", "ran"]
        assert (await docker_site.driver.usage(id, {})).cpu_s > 0

    async def test_a_machine_that_was_started_again_runs_only_once_its_ssh_server_answers_again(
        self, docker_site: SiteUnderTest
    ) -> None:
        id = await docker_site.create(docker_site.new_key())
        await docker_site.until(id, "running")
        slow = "sed -i '2i sleep 3' /usr/local/sbin/vm-init"
        subprocess.run(["docker", "exec", id, "sh", "-c", slow], check=True, capture_output=True)
        await docker_site.driver.stop(id, {})
        await docker_site.driver.start(id, {})
        assert await docker_site.phase_of(id) == "creating"
        await docker_site.until(id, "running")

    async def test_a_machine_whose_first_process_keeps_failing_has_failed_with_its_last_words(
        self, docker_site: SiteUnderTest
    ) -> None:
        spec = replace(SMALL, user="daemon", ssh_keys=("ssh-ed25519 AAAAC3Nz",), image="indaco/vm:12")
        id = await docker_site.driver.create(docker_site.new_key(), spec, {})
        break_it = "printf '#!/bin/sh\\necho cannot go on >&2; exit 3\\n' > /usr/local/sbin/vm-init; kill $(pidof sshd)"
        subprocess.run(
            ["docker", "exec", id, "sh", "-c", f"until pidof sshd; do sleep 0.1; done; {break_it}"],
            check=True,
            capture_output=True,
        )
        state = await docker_site.driver.describe(id, {})
        for _ in range(100):
            state = await docker_site.driver.describe(id, {})
            if state.phase == "failed":
                break
            await asyncio.sleep(0.1)
        assert (state.phase, state.reason) == ("failed", "cannot go on")

    async def test_a_creation_that_died_before_the_start_is_finished_by_a_repeat(
        self, docker_site: SiteUnderTest
    ) -> None:
        key = docker_site.new_key()
        made = await docker_site.driver._make(key, SMALL)  # what is left when the process dies between the two requests
        assert await docker_site.driver.find(key, {}) == made["Id"]
        assert await docker_site.phase_of(made["Id"]) == "creating"
        assert await docker_site.create(key) == made["Id"]
        await docker_site.until(made["Id"], "running")


def new_key_pair(folder: Path) -> tuple[Path, str]:
    """Return the file of a private key, and the public key."""
    key_file = folder / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key_file], check=True)
    return key_file, key_file.with_suffix(".pub").read_text().strip()


async def ssh(key_file: Path, port: int, user: str, command: str) -> str:
    options = [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
        "-o",
        "BatchMode=yes",
    ]
    process = await asyncio.create_subprocess_exec(
        "ssh",
        "-i",
        key_file,
        "-p",
        str(port),
        *options,
        f"{user}@127.0.0.1",
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, error = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, error.decode()
    return out.decode()


async def test_a_simulated_bucket_is_there_at_once_and_takes_no_machine_of_the_site(tmp_path: Path) -> None:
    place = place_of("simulated", f"simulated:{tmp_path}?boot_s=0&capacity=1")
    driver = await driver_class("simulated").open(place)
    credential = (await Issuers(NoSecrets()).issuer_for(place).issue(place, "b/1/1", 600)).secret  # type: ignore[arg-type]
    try:
        spec = NodeSpec(kind="bucket", needs=ResourceVector(buckets=1), hostname="results")
        id = await driver.create(NodeKey("d", 1, "store-0"), spec, credential)
        state = await driver.describe(id, credential)
        assert (state.phase, state.public_addresses) == (Phase.RUNNING, ())
        assert state.url.startswith("https://")
        assert (await driver.capacity(credential)).used["instances"] == 0
        await driver.create(NodeKey("d", 1, "server-0"), SMALL, credential)
        await driver.delete(id, credential)
        assert (await driver.describe(id, credential)).phase is Phase.ABSENT
    finally:
        await driver.close()
