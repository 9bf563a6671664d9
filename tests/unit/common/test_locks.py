"""Locks by name: one holder each, in turn, and nothing lost when somebody gives up waiting."""

import asyncio

import pytest

from indaco_common.store.locks import Locks


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_holds_a_name_and_the_others_get_it_in_turn() -> None:
    locks, order = Locks(), list[int]()

    async def work(number: int) -> None:
        await locks.acquire("a")
        order.append(number)
        await asyncio.sleep(0)
        assert order[-1] == number  # nobody came in between
        locks.release("a")

    await asyncio.gather(*(work(number) for number in range(10)))
    assert order == list(range(10))


async def test_names_do_not_wait_for_each_other() -> None:
    locks = Locks()
    await locks.acquire("a")
    async with asyncio.timeout(1):
        await locks.acquire("b")


async def test_who_gives_up_waiting_holds_nothing_and_keeps_nobody_waiting() -> None:
    locks = Locks()
    await locks.acquire("a")
    impatient, patient = (asyncio.create_task(locks.acquire("a")) for _ in range(2))
    await settle()
    impatient.cancel()
    await settle()
    locks.release("a")
    async with asyncio.timeout(1):
        await patient
    assert impatient.cancelled()


async def test_who_is_cancelled_in_the_moment_of_getting_it_passes_it_on() -> None:
    locks = Locks()
    await locks.acquire("a")
    first, second = (asyncio.create_task(locks.acquire("a")) for _ in range(2))
    await settle()
    locks.release("a")
    first.cancel()
    async with asyncio.timeout(1):
        await second
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_what_is_released_by_the_last_is_free_again() -> None:
    locks = Locks()
    for _ in range(2):
        async with asyncio.timeout(1):
            await locks.acquire("a")
        locks.release("a")
