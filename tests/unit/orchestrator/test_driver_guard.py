"""The guard around a driver, and the registry that finds drivers."""

import asyncio
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog.testing

from indaco_common.contracts.values import Place
from indaco_common.errors import CredentialRejected, Invalid, NoCapacity, SpecRejected, Unavailable
from indaco_common.units import ResourceVector
from indaco_orchestrator.drivers import registry
from indaco_orchestrator.drivers.guard import GuardedDriver
from indaco_orchestrator.drivers.port import Ability, NodeKey, NodeSpec, ResourceId
from indaco_orchestrator.drivers.registry import DriverRegistry, installed

KEY, SPEC, ID = NodeKey("d", 1, "n-0"), NodeSpec(needs=ResourceVector()), ResourceId("x")


class OddDriver:
    """Does for every call what *answer* does."""

    kind: ClassVar[str] = "odd"
    abilities: ClassVar[frozenset[Ability]] = frozenset({Ability.USAGE})
    opened: ClassVar[list["OddDriver"]] = []

    def __init__(self, answer: Callable[[], Any] = lambda: None) -> None:
        self.answer = answer
        self.is_closed = False

    @classmethod
    async def open(cls, place: Place) -> "OddDriver":
        if place.project == "broken":
            raise KeyError("project")
        cls.opened.append(cls())
        return cls.opened[-1]

    async def close(self) -> None:
        self.is_closed = True
        if len(self.opened) > 1 and self is self.opened[1]:
            raise OSError("already gone")

    async def _any(self, *_: object) -> Any:
        answer = self.answer()
        return await answer if asyncio.iscoroutine(answer) else answer

    create = find = describe = delete = capacity = usage = start = stop = _any


def every_call(driver: GuardedDriver) -> list[Callable[[], Any]]:
    return [
        lambda: driver.create(KEY, SPEC, {}),
        lambda: driver.find(KEY, {}),
        lambda: driver.describe(ID, {}),
        lambda: driver.delete(ID, {}),
        lambda: driver.capacity({}),
        lambda: driver.usage(ID, {}),
        lambda: driver.start(ID, {}),
        lambda: driver.stop(ID, {}),
    ]


def raising(error: Exception) -> Callable[[], Any]:
    def answer() -> None:
        raise error

    return answer


@pytest.mark.parametrize("error", [NoCapacity("a"), CredentialRejected("b"), SpecRejected("c"), Unavailable("d")])
async def test_the_contracts_errors_pass(error: Exception) -> None:
    for call in every_call(GuardedDriver(OddDriver(raising(error)), provider="alpha")):
        with pytest.raises(type(error)) as caught:
            await call()
        assert caught.value is error


@pytest.mark.parametrize("error", [KeyError("x"), OSError("y"), Invalid("z"), ValueError("secret-token")])
async def test_any_other_error_becomes_unavailable_and_its_words_are_told_to_nobody(error: Exception) -> None:
    for call in every_call(GuardedDriver(OddDriver(raising(error)), provider="alpha")):
        with (
            structlog.testing.capture_logs() as logged,
            pytest.raises(Unavailable, match=type(error).__name__) as caught,
        ):
            await call()
        assert [entry["event"] for entry in logged] == ["driver.failed"]
        assert "secret" not in f"{caught.value} {logged}"
        assert caught.value.__cause__ is error


async def test_a_call_that_takes_too_long_is_unavailable() -> None:
    for call in every_call(GuardedDriver(OddDriver(lambda: asyncio.sleep(60)), provider="alpha", timeout_s=0.02)):
        with pytest.raises(Unavailable, match="did not answer"):
            await call()


async def test_cancelling_a_call_cancels_it() -> None:
    call = asyncio.create_task(GuardedDriver(OddDriver(lambda: asyncio.sleep(60)), provider="alpha").capacity({}))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


def test_a_guard_looks_like_what_it_guards() -> None:
    guard = GuardedDriver(OddDriver(), provider="alpha")
    assert (guard.kind, guard.abilities) == ("odd", frozenset({Ability.USAGE}))


def place(kind: str = "odd", *, project: str = "p", endpoint: str = "odd:") -> Place:
    return Place(provider="alpha", kind=kind, endpoint=endpoint, region="r", project=project, agreement="a")


@pytest.fixture
def _odd(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {
        "odd": EntryPoint("odd", f"{__name__}:OddDriver", registry.GROUP),
        "absent": EntryPoint("absent", "no_such_module:Driver", registry.GROUP),
    }
    monkeypatch.setattr(registry, "installed", lambda: entries)
    monkeypatch.setattr(
        EntryPoint, "load", lambda self: OddDriver if self.name == "odd" else __import__("no_such_module")
    )
    OddDriver.opened.clear()


def test_the_drivers_of_this_distribution_are_installed() -> None:
    assert {"simulated", "docker"} <= set(installed())


async def test_every_installed_driver_is_of_the_kind_it_is_named_for() -> None:
    for kind, entry in installed().items():
        assert entry.load().kind == kind


@pytest.mark.usefixtures("_odd")
async def test_one_driver_serves_a_place_and_another_one_another_project() -> None:
    drivers = DriverRegistry()
    same = await asyncio.gather(*(drivers.driver_for(place()) for _ in range(5)))
    assert len({id(driver) for driver in same}) == 1
    assert await drivers.driver_for(place(project="q")) is not same[0]
    assert len(OddDriver.opened) == 2


@pytest.mark.usefixtures("_odd")
async def test_every_driver_is_closed_at_the_end_even_if_one_fails() -> None:
    drivers = DriverRegistry()
    for project in ("p", "q", "r"):
        await drivers.driver_for(place(project=project))
    await drivers.close()
    await drivers.close()
    assert [driver.is_closed for driver in OddDriver.opened] == [True] * 3


@pytest.mark.usefixtures("_odd")
@pytest.mark.parametrize("wrong", [place("unheard-of"), place("absent"), place(project="broken")])
async def test_a_driver_that_is_not_there_or_cannot_be_opened_is_unavailable(wrong: Place) -> None:
    with pytest.raises(Unavailable):
        await DriverRegistry().driver_for(wrong)


async def test_a_wrong_endpoint_is_unavailable_for_each_kind(tmp_path: Path) -> None:
    drivers = DriverRegistry()
    for kind, endpoint in [
        ("simulated", f"simulated:{tmp_path}?speed=1"),
        ("docker", "docker:unix:///x?speed=1"),
        ("docker", "docker:tcp://192.0.2.1:2375"),
        ("docker", "docker:ssh://127.0.0.1"),
    ]:
        with pytest.raises(Unavailable):
            await drivers.driver_for(place(kind, endpoint=endpoint))
