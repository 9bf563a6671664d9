"""A whole Indaco in a process of its own, with a simulated site that has room for four machines."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from indaco_common.testing.federation import Federation

SITES = """
providers:
  - id: SITE-A
    kind: simulated
    endpoint: "simulated:${INDACO_SIMULATED}?boot_s=0.1&capacity=100"
    regions: [one]
    simulated: true
    flavors:
      - {name: small, vcpus: 1, memory_mib: 2048, disk_gib: 20}
    images:
      - {name: ubuntu-22.04, distribution: ubuntu, version: "22.04"}
agreements:
  - id: a
    group: {issuer: "${INDACO_ISSUER}", path: cms}
    provider: SITE-A
    region: one
    project: cms
    weight: 0.9
    limits: {instances: 4, cpu_milli: 12000, memory_mib: 49152, disk_gib: 400, public_ips: 4}
    valid_from: 2026-01-01T00:00:00Z
    valid_to: 2096-01-01T00:00:00Z
"""
QUICK = {
    "INDACO_ORCHESTRATOR_POLL_S": "0.1", "INDACO_ORCHESTRATOR_POLL_MAX_S": "0.5", "INDACO_ORCHESTRATOR_CLAIM_S": "3",
    "INDACO_ORCHESTRATOR_WATCH_S": "2", "INDACO_DOCKER_STATE": "maintenance",
}  # fmt: skip


@asynccontextmanager
async def federation(folder: Path) -> AsyncIterator[Federation]:
    """Run it; ``ada`` is of the group cms."""
    whole = Federation(folder, SITES, {"ada": ("cms",)}, settings=QUICK)
    try:
        await whole.start()
        yield whole
    finally:
        await whole.stop()
