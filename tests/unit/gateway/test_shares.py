"""What one host and one owner may take of the sending, and who goes on when there is room."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from indaco_common.envelope import Context
from indaco_common.errors import Unavailable
from indaco_common.timers import AT_ONCE
from indaco_gateway.webhooks import deliveries, outbound
from indaco_gateway.webhooks.destinations import host_of
from indaco_gateway.webhooks.shares import SHARE, Job, Shares

TIMER = Context(at_version=7)


class Bench:
    """Jobs that last until they are let go, and who of them ran beside how many."""

    def __init__(self) -> None:
        self.shares, self.gate = Shares(2), asyncio.Event()
        self.began: list[str] = []
        self.now, self.most = Counter[str](), Counter[str]()

    def job(
        self, id: str, host: str = "h", owner: str = "", run: Callable[[Context], Awaitable[None]] | None = None
    ) -> Job:
        async def until_let_go(_: Context) -> None:
            self.began.append(id)
            self.now.update((host, owner))
            self.most |= self.now
            await asyncio.sleep(0)
            await self.gate.wait()
            self.now.subtract((host, owner))

        return Job("subscription", id, host, owner or id, run or until_let_go)

    def start(self, *jobs: Job) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.shares.run(job, TIMER)) for job in jobs]


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_who_finds_no_room_gives_the_slot_back_and_who_leads_elsewhere_goes_on(bench: Bench) -> None:
    tasks = bench.start(*(bench.job(str(n)) for n in range(4)), bench.job("other", "elsewhere"))
    await asyncio.sleep(0)
    assert bench.began == ["0", "1", "other"]
    assert [task.done() for task in tasks] == [False, False, True, True, False]
    bench.gate.set()
    await asyncio.gather(*tasks)
    assert sorted(bench.began) == ["0", "1", "2", "3", "other"]


async def test_an_owner_with_many_hosts_takes_no_more_than_a_share(bench: Bench) -> None:
    tasks = bench.start(*(bench.job(str(n), f"host-{n}", "ada") for n in range(4)), bench.job("other", "host-0", "bob"))
    await asyncio.sleep(0)
    assert bench.began == ["0", "1", "other"]
    bench.gate.set()
    await asyncio.gather(*tasks)
    assert bench.most["ada"] == 2


async def test_a_host_that_answers_fast_is_kept_busy_by_those_who_are_in_already(bench: Bench) -> None:
    bench.gate.set()
    await asyncio.gather(*bench.start(*(bench.job(str(n)) for n in range(200))))
    assert (sorted(map(int, bench.began)), bench.most["h"]) == (list(range(200)), 2)
    assert bench.shares.noted("199") is None


async def test_what_was_noted_runs_whatever_its_version_is_by_then_and_its_error_is_its_own(bench: Bench) -> None:
    seen: list[int | None] = []

    async def fails(ctx: Context) -> None:
        seen.append(ctx.at_version)
        raise Unavailable("no vault")

    first, second = bench.start(bench.job("1"), bench.job("2"))
    await asyncio.gather(*bench.start(bench.job("3", run=fails), bench.job("4")))
    bench.gate.set()
    await asyncio.gather(first, second)
    assert (seen, bench.began) == ([None], ["1", "2", "4"])
    with pytest.raises(Unavailable):
        await bench.shares.run(bench.job("5", run=fails), TIMER)
    assert seen == [None, 7]


async def test_a_job_that_fails_or_is_stopped_leaves_its_room_to_others(bench: Bench) -> None:
    tasks = bench.start(bench.job("1"), bench.job("2"))
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    bench.start(bench.job("3"))
    await asyncio.sleep(0)
    assert bench.began == ["1", "2", "3"]


async def test_what_is_noted_is_asked_for_again_with_no_look_into_the_store_and_runs_once(bench: Bench) -> None:
    tasks = bench.start(bench.job("1"), bench.job("2"))
    await asyncio.gather(*bench.start(bench.job("3")))
    noted = bench.shares.noted("3")
    assert noted is not None
    await bench.shares.run(noted, TIMER)
    bench.gate.set()
    await asyncio.gather(*tasks)
    assert bench.began == ["1", "2", "3"]


def test_no_batch_waits_for_a_connection_and_no_host_takes_most_of_the_slots() -> None:
    assert outbound.AT_ONCE >= 2 * AT_ONCE * deliveries.AT_ONCE
    assert SHARE * 4 <= AT_ONCE


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Example.org/a", "example.org"), ("http://example.org.:8080/b", "example.org"), ("http://127.1/", "127.0.0.1"),
        ("http://2130706433/", "127.0.0.1"), ("http://[::ffff:127.0.0.1]/", "127.0.0.1"), ("http://[2001:DB8::0:1]/", "2001:db8::1"),
        ("", ""), ("http://[x", ""),
    ],
)  # fmt: skip
def test_one_host_has_one_name_however_it_is_written(url: str, host: str) -> None:
    assert host_of(url) == host
