"""Lists of deployments out of very many, as the gateway answers them."""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from indaco_common.auth import Principal
from indaco_common.clock import SystemClock
from indaco_common.contracts.values import Group, Owner
from indaco_common.ids import uuid7
from indaco_common.store import Repository
from indaco_common.store.sqlite import SqliteStore
from indaco_gateway.api import shown
from indaco_gateway.api.listing import ListQuery, cursor_behind, query_of
from indaco_gateway.identity.policy import Roles
from indaco_gateway.indigo import listing
from indaco_gateway.model.operation import Operation, Status

from .programs import run
from .rows import Figures, at_most, row

OWN, OTHERS, STEPS, ROUNDS, BATCH = 100_000, 20_000, 12, 300, 500
ISSUER = "https://iam.example.org/"
START = datetime(2026, 1, 1, tzinfo=UTC)
ADA = Principal(
    issuer=ISSUER, subject="ada", groups=frozenset({"cms"}), scopes=frozenset(), name=None, email=None,
    expires_at=START + timedelta(days=999)
)  # fmt: skip


@row("ms", goal=at_most(20))
def deployments_list_p99() -> Figures:
    """A page of 20 of a user's 100,000 deployments (12 steps each; 20,000 more are others'), as /v1/deployments finds and writes it,
    300 times, one after the other: the 99th percentile over the first page and pages behind a cursor, on SQLite. In the details: with filters,
    and the pages of the INDIGO list, which count all."""
    with tempfile.TemporaryDirectory(prefix="indaco-bench-") as folder:
        found = run("-m", __name__, folder)
    return Figures(ours=found["native"]["p99_ms"], details=found)


async def filled(folder: Path) -> Repository[Operation]:
    store = SqliteStore(folder / "gateway.db", synchronous="OFF")
    await store.start()
    operations = Repository(store, Operation, source="gateway", clock=SystemClock(), saved=lambda *_: None)
    for begin in range(0, OWN + OTHERS, BATCH):
        await asyncio.gather(*(_put(store, number) for number in range(begin, begin + BATCH)))
    return operations


async def _put(store: SqliteStore, number: int) -> None:
    at, subject = START + timedelta(seconds=number), "ada" if number % 6 else f"user-{number % 7}"
    operation = Operation(
        id=uuid7(), owner=Owner(issuer=ISSUER, subject=subject), group=Group(issuer=ISSUER, path="cms"), name=f"analysis {number}",
        tags={"run": str(number % 1000)}, created_at=at, updated_at=at,
        status=Status.CREATE_FAILED if number % 10 == 0 else Status.CREATE_COMPLETE,
    )  # fmt: skip
    for step in range(STEPS):
        operation.note(at, "test.step", f"Step {step}", "what happened then, in some words")
    index = {name: _value(operation, name) for name in Operation.INDEX}
    state = operation.model_dump_json().encode()
    await store.save(
        Operation.KIND, operation.id, version=0, state=state, index=index, due_at=None, outbox=(), message_id=None, now=at
    )  # fmt: skip


def _value(operation: Operation, name: str) -> Any:
    value: Any = operation
    for part in name.split("."):
        value = getattr(value, part)
    return value.isoformat() if isinstance(value, datetime) else value


async def native(operations: Repository[Operation], asked: ListQuery) -> str | None:
    """Answer as /v1/deployments does; return the cursor behind the page."""
    found, _ = await operations.find_parts(query_of(asked, ADA, Roles(ISSUER)), shown.Listed)
    page = found[: asked.limit]
    behind = cursor_behind(page[-1].created_at, page[-1].id) if len(found) > asked.limit else None
    shown.DeploymentPage(content=[shown.summary(operation) for operation in page], next=behind).model_dump_json()
    return behind


async def indigo(operations: Repository[Operation], number: int) -> None:
    paging = listing.Paging(number, 20)
    await operations.find(listing.query_of({}, paging, ADA, is_admin=False))


async def timed(work: Callable[[int], Awaitable[object]], rounds: int = ROUNDS) -> dict[str, float]:
    times = []
    for number in range(rounds):
        began = time.perf_counter()
        await work(number)
        times.append(1000 * (time.perf_counter() - began))
    return {"median_ms": round(median(times), 2), "p99_ms": round(quantiles(times, n=100)[98], 2), "rounds": rounds}


async def measure(folder: Path) -> dict[str, Any]:
    operations = await filled(folder)
    cursor: list[str | None] = [None]

    async def walk(_: int) -> None:
        cursor[0] = await native(operations, ListQuery(limit=20, cursor=cursor[0]))

    filtered = {
        "one_state": ListQuery(status=(Status.CREATE_FAILED,)), "tag": ListQuery(tag=("run=77",)), "text": ListQuery(text="analysis 4711"),
        "provider_that_is_not_there": ListQuery(provider="nowhere"), "shared_with_none": ListQuery(scope="shared"),
    }  # fmt: skip
    await native(operations, ListQuery())  # makes the index
    found: dict[str, Any] = {"native": await timed(walk)}
    for name, asked in filtered.items():
        await native(operations, asked)
        found[name] = await timed(lambda _, asked=asked: native(operations, asked), rounds=30)  # type: ignore[misc]
    await indigo(operations, 0)
    found["indigo_first_page"] = await timed(lambda _: indigo(operations, 0), rounds=100)
    found["indigo_page_1000"] = await timed(lambda _: indigo(operations, 1000), rounds=30)
    await operations._store.stop()  # noqa: SLF001
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(Path(sys.argv[1])))))
