"""Credential issuers: those of the entry points ``indaco.issuers``, by kind of cloud, and standing credentials for all other kinds."""

from importlib.metadata import entry_points
from typing import Final

import structlog

from indaco_common.clock import Clock
from indaco_common.contracts.values import Place
from indaco_common.errors import Unavailable
from indaco_common.secrets.port import Secrets
from indaco_vault_broker.issuers.port import CredentialIssuer
from indaco_vault_broker.issuers.standing import StandingIssuer

GROUP: Final = "indaco.issuers"
log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Issuers:
    """The issuers of one process: one of each kind, made when first needed."""

    def __init__(self, secrets: Secrets, clock: Clock | None = None) -> None:
        self._secrets, self._clock = secrets, clock
        self._open: dict[str, CredentialIssuer] = {}

    def issuer_for(self, place: Place) -> CredentialIssuer:
        """Return the issuer for *place*. Raises Unavailable, if the one that is installed for its kind cannot be loaded."""
        if place.kind not in self._open:
            self._open[place.kind] = self._made(place.kind)
        return self._open[place.kind]

    def _made(self, kind: str) -> CredentialIssuer:
        found = entry_points(group=GROUP, name=kind)
        if not found:
            return StandingIssuer(self._secrets, self._clock)
        try:
            issuer: CredentialIssuer = next(iter(found)).load()(self._clock)
        except Exception as error:
            log.exception("issuer.unloadable", kind=kind)
            raise Unavailable(f"the credential issuer of the kind {kind!r} cannot be loaded") from error
        return issuer

    async def close(self) -> None:
        while self._open:
            await self._open.popitem()[1].close()
