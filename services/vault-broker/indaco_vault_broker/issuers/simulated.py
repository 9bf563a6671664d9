"""Credentials of simulated sites: tokens that the site's own secret signed, so that the site can truly refuse others."""

from typing import ClassVar

import structlog

from indaco_common import simulation
from indaco_common.clock import Clock, SystemClock
from indaco_common.contracts.values import Place
from indaco_common.errors import Invalid, Unavailable
from indaco_common.simulation import Lease, Site
from indaco_vault_broker.issuers.port import IssuedCredential

log = structlog.stdlib.get_logger()


class SimulatedIssuer:
    kind: ClassVar[str] = simulation.KIND

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._sites: dict[tuple[str, str], Site] = {}

    async def issue(self, place: Place, lease_key: str, ttl_s: float) -> IssuedCredential:
        site = self._site(place)
        await site.answer()
        expires_at = simulation.lease_until(self._clock.now(), ttl_s)
        lease = Lease(lease_key, place.region, place.project, expires_at, is_revoked=False)
        token, expires_at = await site.run(lambda connection: simulation.issue(connection, lease))
        log.info("credential.issued", provider=place.provider, expires_at=expires_at.isoformat(), simulated=True)
        return IssuedCredential({"kind": self.kind, "token": token}, expires_at)

    async def revoke(self, place: Place, lease_key: str) -> None:
        site = self._site(place)
        await site.answer()
        now = self._clock.now()
        await site.run(lambda connection: simulation.revoke(connection, lease_key, now))
        log.info("credential.revoked", provider=place.provider, simulated=True)

    async def close(self) -> None:
        while self._sites:
            self._sites.popitem()[1].close()

    def _site(self, place: Place) -> Site:
        name = (place.endpoint, place.provider)
        if name not in self._sites:
            try:
                self._sites[name] = Site.at(*name, clock=self._clock)
            except Invalid as error:
                raise Unavailable(
                    error.detail
                ) from error  # an operator mends the provider; until then nothing works there
        return self._sites[name]
