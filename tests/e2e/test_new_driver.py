"""A new kind of cloud is one module and one line in a distribution of its own; nothing of Indaco is edited."""

import asyncio
import os
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from .worlds import GONE, MakeFederation, World, template

SOURCE = Path(__file__).parent / "fixtures" / "extra_driver"
FEDERATION = """
providers:
  - id: SHELF
    kind: shelf
    endpoint: "shelf:{shelf}"
    regions: [here]
    flavors: [{{name: any, vcpus: 4, memory_mib: 8192, disk_gib: 40}}]
    images: [{{name: ubuntu, distribution: ubuntu, version: "22.04"}}]
agreements:
  - id: cms-shelf
    group: {{issuer: "${{INDACO_ISSUER}}", path: cms}}
    provider: SHELF
    region: here
    project: cms
    limits: {{instances: 4, cpu_milli: 8000, memory_mib: 16384, disk_gib: 100, public_ips: 4}}
    valid_from: 2026-01-01T00:00:00Z
    valid_to: 2096-01-01T00:00:00Z
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Install the distribution into a folder of its own, as an installer would; return the PYTHONPATH that has it."""
    packages = tmp_path / "packages"
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    about = packages / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, entries in groups for line in (f"[{group}]", *(f"{n} = {v}" for n, v in entries.items()))]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    shutil.copy(SOURCE / "indaco_shelf.py", packages)
    return os.pathsep.join([str(packages), *filter(None, [os.environ.get("PYTHONPATH")])])


async def test_the_orchestrator_finds_the_driver_by_its_entry_point(path: str, tmp_path: Path) -> None:
    program = """
import asyncio, sys
from indaco_common.contracts.values import Place
from indaco_orchestrator.drivers.registry import DriverRegistry
place = Place(provider="SHELF", kind="shelf", endpoint=f"shelf:{sys.argv[1]}", region="here", project="p", agreement="a")
driver = asyncio.run(DriverRegistry().driver_for(place))
print(driver.kind)
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path / "shelf"), env={**os.environ, "PYTHONPATH": path},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert out.splitlines()[-1] == b"shelf"


async def test_users_deploy_to_it_like_to_any_other(path: str, tmp_path: Path, make_federation: MakeFederation) -> None:
    shelf = tmp_path / "shelf"
    federation = make_federation(federation=FEDERATION.format(shelf=shelf), PYTHONPATH=path)
    world = World(federation)
    try:
        await federation.start()
        async with world.client() as client:
            id = (await client.create(template("virtual-machine"), {}, group="cms"))["id"]
            done = await client.wait(id, timeout_s=60)
            assert (done["provider"], (await client.outputs(id))["node_ip"]) == ("SHELF", "192.0.2.1")
            assert len(list(shelf.iterdir())) == 1
            await client.delete(id)
            await client.wait(id, timeout_s=60, until=GONE)
            assert list(shelf.iterdir()) == []
    finally:
        await federation.stop()
