"""Credentials of a Docker Engine: none, since whoever reaches its socket may use it. A marker keeps the flow the same everywhere."""

from datetime import timedelta
from typing import ClassVar

from indaco_common.clock import Clock, SystemClock
from indaco_common.contracts.values import Place
from indaco_vault_broker.issuers.port import IssuedCredential


class DockerIssuer:
    kind: ClassVar[str] = "docker"

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    async def issue(self, place: Place, lease_key: str, ttl_s: float) -> IssuedCredential:  # noqa: ARG002 - the port's
        return IssuedCredential({"kind": self.kind}, self._clock.now() + timedelta(seconds=ttl_s))

    async def revoke(self, place: Place, lease_key: str) -> None:
        """There is nothing to revoke: access ends with the socket's permissions."""

    async def close(self) -> None:
        """There is nothing to close."""
