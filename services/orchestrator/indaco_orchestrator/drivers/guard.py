"""Holds any driver to the contract: a call ends in time, and with one of the contract's errors or none."""

import asyncio
import traceback
from collections.abc import Awaitable
from typing import ClassVar, Final, TypeVar

import structlog

from indaco_common.contracts.values import Place
from indaco_common.errors import CredentialRejected, NoCapacity, SpecRejected, Unavailable
from indaco_orchestrator.drivers.port import (
    CALL_TIMEOUT_S,
    Ability,
    Capacity,
    Credential,
    NodeKey,
    NodeSpec,
    ProviderDriver,
    ResourceId,
    ResourceState,
    UsageSample,
)

CONTRACT: Final = (NoCapacity, CredentialRejected, SpecRejected, Unavailable)
_FRAMES: Final = 6  # of the stack, innermost last, that the log shows of a failure
T = TypeVar("T")
log = structlog.stdlib.get_logger()


class GuardedDriver:
    """Passes every call on to *driver*.

    A call that takes too long, or that fails with what the contract does not know (a bug in the driver), becomes Unavailable: it is
    asked again, and it is seen in the log. Giving up instead could leave machines behind that nobody remembers.
    """

    kind: ClassVar[str] = "guarded"
    abilities: ClassVar[frozenset[Ability]] = frozenset()

    def __init__(self, driver: ProviderDriver, *, provider: str, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._driver = driver
        self._provider = provider
        self._timeout_s = timeout_s
        # The guard looks like what it guards; the port declares both on the class, where most drivers have them.
        self.__dict__.update(kind=driver.kind, abilities=driver.abilities)

    @classmethod
    async def open(cls, place: Place) -> "GuardedDriver":
        """Refuse: a guard is put around a driver that is open."""
        raise Unavailable(f"a guard cannot open a driver for {place.provider}")

    async def close(self) -> None:
        await self._driver.close()

    async def create(self, key: NodeKey, spec: NodeSpec, credential: Credential) -> ResourceId:
        return await self._call("create", self._driver.create(key, spec, credential))

    async def find(self, key: NodeKey, credential: Credential) -> ResourceId | None:
        return await self._call("find", self._driver.find(key, credential))

    async def describe(self, id: ResourceId, credential: Credential) -> ResourceState:
        return await self._call("describe", self._driver.describe(id, credential))

    async def delete(self, id: ResourceId, credential: Credential) -> None:
        await self._call("delete", self._driver.delete(id, credential))

    async def capacity(self, credential: Credential) -> Capacity:
        return await self._call("capacity", self._driver.capacity(credential))

    async def usage(self, id: ResourceId, credential: Credential) -> UsageSample:
        return await self._call("usage", self._driver.usage(id, credential))

    async def start(self, id: ResourceId, credential: Credential) -> None:
        await self._call("start", self._driver.start(id, credential))

    async def stop(self, id: ResourceId, credential: Credential) -> None:
        await self._call("stop", self._driver.stop(id, credential))

    async def _call(self, verb: str, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except CONTRACT:
            raise
        except TimeoutError as error:
            log.warning("driver.timed-out", verb=verb, kind=self._driver.kind, provider=self._provider)
            raise Unavailable(f"{self._provider} did not answer within {self._timeout_s:g} s") from error
        except Exception as error:
            # Neither the error's words nor a traceback with local variables: either may hold the credential.
            frames = [
                f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
            ]
            log.error(  # noqa: TRY400 - see above
                "driver.failed",
                verb=verb,
                kind=self._driver.kind,
                provider=self._provider,
                error=type(error).__name__,
                frames=frames[-_FRAMES:],
            )
            raise Unavailable(f"the driver of {self._provider} failed: {type(error).__name__}") from error
