"""Deployments as a gateway has them after a while, put into its store before it starts."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from indaco_common.clock import SystemClock
from indaco_common.contracts.values import Group, Owner, Place, Ranked, Reason
from indaco_common.envelope import Context
from indaco_common.ids import uuid7
from indaco_common.store import Repository
from indaco_common.store.sqlite import SqliteStore
from indaco_gateway.model.operation import Attempt, Life, Machine, Operation, Outcome, Status

START = datetime(2026, 1, 1, tzinfo=UTC)
STEPS, BATCH = 12, 500
FAILED, OTHERS = 10, 5  # one of so many
PLACE = Place(
    provider="CLOUD-CNAF-T1", kind="openstack", endpoint="https://keystone.example.org:5000/v3", region="one", project="cms", agreement="cms-1"
)  # fmt: skip
RANKED = tuple(
    Ranked(provider=f"CLOUD-{name}", region="one", score=0.9, terms={"agreement": 0.8, "headroom": 0.95, "reliability": 1.0})
    for name in ("CNAF-T1", "VENETO")
)  # fmt: skip
REFUSED = (Reason(provider="CLOUD-IBISCO", region="one", code="QUOTA", detail="0 of 20 free", resource="public_ips", need=1, available=0, limit=20),)  # fmt: skip


@cache
def _model(owner: Owner, *, is_failed: bool) -> Operation:
    """Return one that came to its end: its machine runs, or the only attempt failed."""
    group = Group(issuer=owner.issuer, path="cms")
    operation = Operation(
        id="", owner=owner, group=group, created_at=START, updated_at=START,
        status=Status.CREATE_FAILED if is_failed else Status.CREATE_COMPLETE, place=PLACE, placed=1, ranked=RANKED, refused=REFUSED,
        nodes=("server-0",), types={"server": "tosca.nodes.indigo.Compute"}, template="0" * 64, building=1, fingerprint="1" * 64,
        attempts=[Attempt(attempt=1, provider=PLACE.provider, region="one", started_at=START, outcome=Outcome.FAILED if is_failed else Outcome.RUNNING)],
        outputs={} if is_failed else {"node_ip": "198.51.100.7", "ssh_endpoint": "ssh://198.51.100.7:22"}, runs=("server-0",),
        machines={"server-0": Machine(physical_id="vm-1", public_address="198.51.100.7", cpu_milli=2000, memory_mib=4096, started_at=START)},
        life=Life(status=Status.CREATE_COMPLETE), seen={"life": "000000000007", "placement": "000000000003"},
    )  # fmt: skip
    for step in range(STEPS):
        operation.note(START, "test.step", f"Step {step}", "what happened then, in some words")
    return operation


def deployment(number: int, owner: Owner) -> Operation:
    """Return the *number*-th one, a second younger than the one before."""
    at = START + timedelta(seconds=number)
    own = {
        "id": uuid7(),
        "name": f"analysis {number}",
        "tags": {"run": str(number % 1000)},
        "created_at": at,
        "updated_at": at,
    }
    return _model(owner, is_failed=number % FAILED == 0).model_copy(update=own)


async def fill(file: Path, owner: Owner, count: int) -> list[str]:
    """Put *count* deployments of *owner* into a new store, and a fifth as many of others; return the ids of the former, newest last."""
    file.parent.mkdir(parents=True, exist_ok=True)
    store = SqliteStore(file, synchronous="OFF")
    await store.start()
    operations = Repository(store, Operation, source="gateway", clock=SystemClock(), saved=lambda *_: None)
    ids = []
    for begin in range(0, count, BATCH):
        made = [deployment(number, owner) for number in range(begin, min(begin + BATCH, count))]
        ids += [operation.id for operation in made]
        made += [
            deployment(number, owner.model_copy(update={"subject": f"user-{number % 7}"})) for number in range(begin, begin + len(made), OTHERS)
        ]  # fmt: skip
        await asyncio.gather(*(operations.create(operation, Context()) for operation in made))
    await store.stop()
    return ids
