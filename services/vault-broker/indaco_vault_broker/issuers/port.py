"""The issuer contract: who makes and takes back the credentials that a driver uses at one kind of cloud."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Protocol

from indaco_common.contracts.values import Place


@dataclass(frozen=True, slots=True)
class IssuedCredential:
    """A credential for one place; *secret* goes to the vault and nowhere else."""

    secret: Mapping[str, str] = field(repr=False)
    expires_at: datetime


class CredentialIssuer(Protocol):
    """Makes and revokes credentials at one kind of cloud. Every call returns within 10 s and may be repeated.

    Errors are instructions to the broker: ``Unavailable`` the same call later; ``PolicyRefused`` this lease will never be issued.
    """

    kind: ClassVar[str]

    async def issue(self, place: Place, lease_key: str, ttl_s: float) -> IssuedCredential:
        """Return a credential for *place* that lasts *ttl_s* seconds; the same *lease_key* again gives the same credential.

        Raises PolicyRefused, if the lease was revoked before: revoked is final.
        """

    async def revoke(self, place: Place, lease_key: str) -> None:
        """Make the credential useless at *place*; one that is revoked already, or was never issued, is not an error."""

    async def close(self) -> None: ...
