"""Every template of the catalogue is deployed on the simulated provider, with the first case of its own test; its outputs are resolved."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from indaco_client import Client
from indaco_tosca import parse, plan

from .worlds import GONE, ROOT, MakeFederation, World

pytestmark = pytest.mark.asyncio(loop_scope="module")
VERSIONS = sorted(path.parent for path in (ROOT / "catalogue").glob("*/*/template.yaml"))
SITE = """
providers:
  - id: SITE
    kind: simulated
    endpoint: "simulated:${INDACO_SIMULATED}?boot_s=0.2&capacity=200"
    regions: [one]
    simulated: true
    provides: [machine, container, bucket]
    images:
      - {name: ubuntu-22.04, distribution: ubuntu, version: "22.04"}
      - {name: debian-12, distribution: debian, version: "12"}
agreements:
  - id: cms-here
    group: {issuer: "${INDACO_ISSUER}", path: cms}
    provider: SITE
    region: one
    project: cms
    limits: {instances: 100, cpu_milli: 400000, memory_mib: 2000000, disk_gib: 9000, public_ips: 60, volumes: 60, volume_gib: 9000, gpus: 4, buckets: 4}
    valid_from: 2026-01-01T00:00:00Z
    valid_to: 2096-01-01T00:00:00Z
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(make_federation: MakeFederation) -> AsyncIterator[Client]:
    federation = make_federation(federation=SITE)
    try:
        await federation.start()
        async with World(federation).client() as client:
            await client.create_key("default")
            yield client
    finally:
        await federation.stop()


def first_case(version: Path) -> dict[str, Any]:
    case: dict[str, Any] = yaml.safe_load((version / "test.yaml").read_text())["cases"][0]
    return case


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: f"{path.parent.name}-{path.name}")
async def test_a_template_runs_and_tells_all_its_outputs(client: Client, version: Path) -> None:
    case, text = first_case(version), (version / "template.yaml").read_text()
    id = (await client.create(text, case["inputs"], group="cms"))["id"]
    running = await client.wait(id, timeout_s=60)
    assert running["status"] == "CREATE_COMPLETE", running
    told = await client.outputs(id)
    assert set(told) == set(case["expect"]["outputs"])
    assert [name for name, value in told.items() if value in (None, "", [])] == []
    wanted = sum(node.count for node in plan(parse(text), case["inputs"]).nodes)
    assert len(await client.resources(id)) == wanted
    await client.delete(id)
    await client.wait(id, timeout_s=60, until=GONE)


async def test_the_workers_of_a_cluster_are_made_after_its_front_end_and_told_its_address(client: Client) -> None:
    """The simulated site does not run what they are told; that they wait is seen in the order of its events."""
    version = next(path for path in VERSIONS if path.parent.name == "kubernetes")
    text, inputs = (version / "template.yaml").read_text(), first_case(version)["inputs"]
    id = (await client.create(text, inputs, group="cms"))["id"]
    await client.wait(id, timeout_s=60)
    told = [str(step["title"]) for step in await client.timeline(id)]
    started = [text.split()[0] for text in told if text.endswith(" runs")]
    assert started[:1] == ["server-0"], told
    assert sorted(started[1:]) == ["agent-0", "agent-1"]
    await client.delete(id)
    await client.wait(id, timeout_s=60, until=GONE)
