"""Finds the driver of a place. Drivers are entry points of the group ``indaco.drivers``, so a site's own may come from anywhere."""

import asyncio
from importlib.metadata import EntryPoint, entry_points
from typing import Final

import structlog

from indaco_common.contracts.values import Place
from indaco_common.errors import Unavailable
from indaco_orchestrator.drivers.guard import GuardedDriver
from indaco_orchestrator.drivers.port import CALL_TIMEOUT_S, ProviderDriver

GROUP: Final = "indaco.drivers"
_Name = tuple[str, str, str, str, str]
log = structlog.stdlib.get_logger()


def installed() -> dict[str, EntryPoint]:
    """Return the installed drivers by kind, none of them imported yet."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


class DriverRegistry:
    """The drivers of one process: one for each provider, endpoint, region and project of a kind, opened when first needed."""

    def __init__(self) -> None:
        self._classes: dict[str, type[ProviderDriver]] = {}
        self._open: dict[_Name, ProviderDriver] = {}
        self._locks: dict[_Name, asyncio.Lock] = {}  # by name, so that a site that is slow to open delays no other

    async def driver_for(self, place: Place) -> ProviderDriver:
        """Return the driver bound to *place*, guarded so that it keeps the contract.

        Raises Unavailable, if no driver is installed for its kind or the driver cannot be opened: only an operator can mend that, and
        what was built there must not be forgotten meanwhile.
        """
        name = (place.kind, place.endpoint, place.provider, place.region, place.project)
        async with self._locks.setdefault(name, asyncio.Lock()):
            if name not in self._open:
                self._open[name] = GuardedDriver(await self._opened(place), provider=place.provider)
                log.info("driver.opened", kind=place.kind, provider=place.provider, region=place.region)
            return self._open[name]

    async def close(self) -> None:
        """Close every driver; one that fails to close does not keep the others open."""
        while self._open:
            name, driver = self._open.popitem()
            try:
                await driver.close()
            except Exception as error:  # noqa: BLE001 - another author's code, at the outermost edge of a stop
                log.warning("driver.unclosed", kind=name[0], provider=name[2], error=type(error).__name__)

    async def _opened(self, place: Place) -> ProviderDriver:
        driver_class = self._class(place.kind)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await driver_class.open(place)
        except Unavailable:
            raise
        except Exception as error:
            log.exception("driver.unopened", kind=place.kind, provider=place.provider)
            raise Unavailable(f"the driver of {place.provider} cannot be opened: {type(error).__name__}") from error

    def _class(self, kind: str) -> type[ProviderDriver]:
        if kind not in self._classes:
            entry = installed().get(kind)
            if entry is None:
                raise Unavailable(f"no driver is installed for the kind {kind!r}")
            try:
                self._classes[kind] = entry.load()
            except Exception as error:
                log.exception("driver.unloadable", kind=kind)
                raise Unavailable(f"the driver of the kind {kind!r} cannot be loaded") from error
        return self._classes[kind]
