"""What is kept of one grant of an issuer: pure values, and how they are written."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from indaco_common.auth.clients import ExchangeClient, LoginClient, Role
from indaco_common.auth.issuers import TrustedIssuer
from indaco_common.auth.oauth_client import Granted, Want
from indaco_common.ids import uuid7

LEEWAY = timedelta(
    seconds=60
)  # an access token that ends within it is renewed, unless it was shorter lived from the start
CLAIM = timedelta(seconds=30)  # longer than a request to an issuer and the write behind it
MAX_ACCESS_TOKENS = 10  # of one grant, for several audiences
LONG_AGO = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Access:
    """An access token. *renew_at*: from then on another is fetched, while this one is good until *expires_at*."""

    token: str = field(repr=False)
    expires_at: datetime
    renew_at: datetime

    @classmethod
    def of(cls, granted: Granted, now: datetime) -> Self:
        life = granted.expires_at - now
        return cls(granted.access_token, granted.expires_at, granted.expires_at - min(LEEWAY, life / 4))


@dataclass(frozen=True, slots=True)
class Kept:
    """What lies at one path of the vault."""

    issuer: str
    role: Role
    client_id: str
    scopes: frozenset[str]
    refresh_token: str | None = field(repr=False)
    asked: str = ""  # what its client asked for then: with another wish it is another grant
    access: Mapping[str, Access] = field(default_factory=dict, repr=False)
    grant: str = ""  # the same for as long as it is renewed, wherever it lies
    serial: int = 0  # of the renewals
    claimed_by: str = ""
    claimed_until: datetime = LONG_AGO

    @classmethod
    def of(
        cls, issuer: TrustedIssuer, role: Role, client: LoginClient | ExchangeClient, granted: Granted, now: datetime
    ) -> Self:
        access = {"": Access.of(granted, now)} if granted.access_token else {}
        return cls(
            issuer.issuer,
            role,
            client.client_id,
            granted.scopes,
            granted.refresh_token,
            asked_of(client),
            access,
            uuid7(),
        )

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Self:
        """Raises: ValueError, KeyError, TypeError, for what we have not written."""
        access = {name: Access(one[0], _time(one[1]), _time(one[2])) for name, one in kept["access"].items()}
        by, until = kept["claim"]
        return cls(
            kept["issuer"], kept["role"], kept["client_id"], frozenset(kept["scopes"]), kept["refresh_token"], kept["asked"], access,
            kept["grant"], kept["serial"], by, _time(until),
        )  # fmt: skip

    def written(self) -> dict[str, object]:
        access = {
            name: [one.token, one.expires_at.timestamp(), one.renew_at.timestamp()] for name, one in self.access.items()
        }
        return {
            "issuer": self.issuer, "role": self.role, "client_id": self.client_id, "scopes": sorted(self.scopes), "asked": self.asked, "access": access,
            "refresh_token": self.refresh_token, "grant": self.grant, "serial": self.serial, "claim": [self.claimed_by, self.claimed_until.timestamp()],
        }  # fmt: skip

    def fresh(self, want: Want, now: datetime) -> Access | None:
        found = self.access.get(want.name)
        return found if found is not None and now < found.renew_at else None

    def valid(self, want: Want, now: datetime) -> Access | None:
        found = self.access.get(want.name)
        return found if found is not None and now < found.expires_at else None

    def renewed(self, want: Want, granted: Granted, now: datetime) -> "Kept":
        """Return it with what the issuer gave; one that does not replace the refresh token sends none."""
        kept = {name: one for name, one in self.access.items() if name != want.name and now < one.expires_at}
        access = dict(list(kept.items())[-MAX_ACCESS_TOKENS + 1 :]) | {want.name: Access.of(granted, now)}
        refresh = granted.refresh_token or self.refresh_token
        return replace(self.unclaimed(), access=access, refresh_token=refresh, serial=self.serial + 1)

    def claimed(self, by: str, now: datetime) -> "Kept":
        return replace(self, claimed_by=by, claimed_until=now + CLAIM)

    def unclaimed(self) -> "Kept":
        return replace(self, claimed_by="", claimed_until=LONG_AGO)


def asked_of(client: LoginClient | ExchangeClient) -> str:
    """Return what *client* asks for, as one text."""
    return Want(client.audience, client.resource, client.scopes).name


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
