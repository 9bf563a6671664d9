"""Tasks that must not end."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
import structlog.testing

from indaco_common import guard
from indaco_common.guard import Guards
from indaco_common.testing.bells import until


@pytest.fixture
async def guards(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Guards]:
    monkeypatch.setattr(guard, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(guard, "LONGEST_PAUSE_S", 0.05)
    guards = Guards()
    with structlog.testing.capture_logs():
        yield guards
        await guards.stop()


async def failing(guards: Guards) -> str | None:
    try:
        await guards.check()
    except RuntimeError as error:
        return str(error)
    return None


async def test_a_task_that_fails_begins_again_and_health_names_it_until_it_has_run_for_a_while(guards: Guards) -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise ValueError("a secret may be in here")
        await asyncio.sleep(60)

    guards.start("relay", work)
    await until(lambda: begun == 2)
    assert await failing(guards) == "relay: ValueError"
    await asyncio.sleep(0.1)
    assert await failing(guards) is None


async def test_a_task_that_ends_is_started_again_and_reported(guards: Guards) -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun > 2:
            await asyncio.sleep(60)

    guards.start("sweeper", work)
    await until(lambda: begun == 1)
    await asyncio.sleep(0)
    assert await failing(guards) == "sweeper: ended"
    await until(lambda: begun == 3)


async def test_a_task_that_keeps_failing_is_never_forgiven(guards: Guards) -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        raise OSError

    guards.start("relay", work)
    await until(lambda: begun == 3)
    for _ in range(20):
        assert await failing(guards) == "relay: OSError"
        await asyncio.sleep(0.01)


async def test_the_pauses_grow_up_to_a_limit(guards: Guards) -> None:
    moments: list[float] = []

    async def work() -> None:
        moments.append(asyncio.get_running_loop().time())
        raise OSError

    guards.start("relay", work)
    await until(lambda: len(moments) == 6)
    pauses = [after - before for before, after in itertools.pairwise(moments)]
    assert [pause >= least for pause, least in zip(pauses, (0.01, 0.02, 0.04, 0.05, 0.05), strict=True)] == [True] * 5


async def test_others_run_on_and_stopping_ends_all(guards: Guards) -> None:
    ended: list[str] = []

    async def good() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("good")

    async def bad() -> None:
        raise OSError

    guards.start("good", good)
    guards.start("bad", bad)
    await asyncio.sleep(0.05)
    assert ended == []
    await guards.stop()
    assert ended == ["good"]
