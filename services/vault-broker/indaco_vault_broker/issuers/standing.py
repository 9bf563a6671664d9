"""Standing credentials: what an operator put into the vault for a provider, or none where a site needs none (a Docker Engine).

It serves every kind of cloud without an issuer of its own, so that a new driver needs nothing here. Revoking takes away the attempt's
copy, which the broker does; the operator's own stays.
"""

from datetime import timedelta
from typing import ClassVar

from indaco_common.clock import Clock, SystemClock
from indaco_common.contracts.values import Place
from indaco_common.secrets.port import Secrets
from indaco_vault_broker.issuers.port import IssuedCredential


class StandingIssuer:
    kind: ClassVar[str] = "standing"

    def __init__(self, secrets: Secrets, clock: Clock | None = None) -> None:
        self._secrets, self._clock = secrets, clock or SystemClock()

    async def issue(self, place: Place, lease_key: str, ttl_s: float) -> IssuedCredential:  # noqa: ARG002 - the port's
        """Return what lies at ``providers/<provider>`` in the vault, marked with the kind; just the mark, if nothing does."""
        kept = await self._secrets.get(f"providers/{place.provider}") or {}
        secret = {name: str(value) for name, value in kept.items()} | {"kind": place.kind}
        return IssuedCredential(secret, self._clock.now() + timedelta(seconds=ttl_s))

    async def revoke(self, place: Place, lease_key: str) -> None:
        """There is nothing to take back at the site."""

    async def close(self) -> None:
        """There is nothing to close."""
