"""What an issuer says about itself (OpenID Connect Discovery 1.0): where its endpoints are."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from indaco_common.auth.fetch import FetchFailed, IssuerHttp
from indaco_common.auth.flights import Flights
from indaco_common.auth.issuers import TrustedIssuer
from indaco_common.clock import Clock

FRESH_FOR = timedelta(hours=1)
KEEP_FOR = timedelta(hours=48)  # through an outage


@dataclass(frozen=True, slots=True)
class Metadata:
    """The discovery document of *issuer*."""

    issuer: TrustedIssuer
    values: dict[str, Any] = field(repr=False)

    def url(self, name: str) -> str:
        """Return the endpoint under *name* ("jwks_uri", "token_endpoint" …). Raises: FetchFailed, if it may not be asked there."""
        found = self.values.get(name)
        if not isinstance(found, str):
            raise FetchFailed(f"the discovery document names no {name}")
        try:
            self.issuer.check_url(found)
        except ValueError as error:
            raise FetchFailed(f"{name}: {error}") from None
        return found


class Discovery:
    """The documents of all trusted issuers, kept for an hour."""

    def __init__(self, http: IssuerHttp, clock: Clock) -> None:
        self._http, self._clock = http, clock
        self._known: dict[str, tuple[Metadata, datetime]] = {}
        self._flights: Flights[TrustedIssuer, Metadata] = Flights()

    async def metadata(self, issuer: TrustedIssuer) -> Metadata:
        """Return what *issuer* says about itself, an hour old at most while it answers. Raises: FetchFailed."""
        known = self._known.get(issuer.issuer)
        if known is None or known[0].issuer != issuer:
            return await self.renew(issuer)
        metadata, at = known
        if self._clock.now() - at < FRESH_FOR:
            return metadata
        try:
            return await self.renew(issuer)
        except FetchFailed:
            if self._clock.now() - at < KEEP_FOR:
                return metadata
            raise

    async def renew(self, issuer: TrustedIssuer) -> Metadata:
        """Ask it now. Raises: FetchFailed, also if the document is of another issuer."""
        return await self._flights.join(issuer, lambda: self._ask(issuer))

    def forget(self) -> None:
        self._known.clear()

    async def close(self) -> None:
        await self._flights.close()

    async def _ask(self, issuer: TrustedIssuer) -> Metadata:
        document = await self._http.get(issuer, issuer.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") not in issuer.names:
            raise FetchFailed("the discovery document is of another issuer")
        metadata = Metadata(issuer, document)
        self._known[issuer.issuer] = (metadata, self._clock.now())
        return metadata
