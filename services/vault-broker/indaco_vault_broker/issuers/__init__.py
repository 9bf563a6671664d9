"""Credential issuers, one module per kind of cloud, and the table of them."""

from collections.abc import Callable, Mapping
from typing import Final

from indaco_common.clock import Clock
from indaco_common.contracts.values import Place
from indaco_common.errors import Unavailable
from indaco_vault_broker.issuers.docker import DockerIssuer
from indaco_vault_broker.issuers.port import CredentialIssuer
from indaco_vault_broker.issuers.simulated import SimulatedIssuer

ISSUERS: Final[Mapping[str, Callable[[Clock | None], CredentialIssuer]]] = {
    SimulatedIssuer.kind: SimulatedIssuer,
    DockerIssuer.kind: DockerIssuer,
}


class Issuers:
    """The issuers of one process: one of each kind, made when first needed."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock
        self._open: dict[str, CredentialIssuer] = {}

    def issuer_for(self, place: Place) -> CredentialIssuer:
        """Return the issuer for *place*. Raises Unavailable, if this installation has none for its kind."""
        if place.kind not in self._open:
            if place.kind not in ISSUERS:
                raise Unavailable(f"no credential issuer is installed for the kind {place.kind!r}")
            self._open[place.kind] = ISSUERS[place.kind](self._clock)
        return self._open[place.kind]

    async def close(self) -> None:
        while self._open:
            await self._open.popitem()[1].close()
