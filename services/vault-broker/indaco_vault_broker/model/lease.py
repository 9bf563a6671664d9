"""One credential for one attempt: from the wish for it to its certain end."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Self

from pydantic import AwareDatetime

from indaco_common.contracts import vault
from indaco_common.contracts.values import Failure, Place
from indaco_common.ids import DeploymentId
from indaco_common.messages import Value
from indaco_common.store import Aggregate

RENEW_AT = 2 / 3  # of a credential's life; the last third is for trying again
RETRY_RENEWAL = timedelta(minutes=5)  # longer than one try with all its time-outs: it is the renewal's claim as well


class State(StrEnum):
    """``issuing`` is saved before the site is asked, so that a revoke always knows where to look."""

    NEW = "new"
    ISSUING = "issuing"
    ISSUED = "issued"
    REFUSED = "refused"
    REVOKED = "revoked"
    EXPIRED = "expired"


FINAL = {State.REVOKED, State.EXPIRED}


class SiteKey(Value):
    """A name under which the site may hold a credential of this lease; without an expiry: asked for, the answer is unknown."""

    name: str
    expires_at: AwareDatetime | None = None


def lease_id(deployment: str, attempt: int, serial: int) -> str:
    return f"{deployment}/{attempt}/{serial}"


def handle(deployment: str, attempt: int) -> str:
    """Return the vault path at which the orchestrator finds the newest credential of an attempt."""
    return f"leases/{deployment}/{attempt}"


class Lease(Aggregate):
    """Revoked and expired are final; a revoke that comes before its issue leaves a tombstone."""

    KIND: ClassVar[str] = "lease"
    INDEX: ClassVar[tuple[str, ...]] = ("state", "deployment_id")

    deployment_id: DeploymentId
    attempt: int
    serial: int
    state: State = State.NEW
    place: Place | None = None
    issued_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None
    site_keys: tuple[SiteKey, ...] = ()
    renewals: int = 0
    reason: Failure | None = None

    @classmethod
    def new(cls, id: str) -> Self:
        deployment, attempt, serial = id.rsplit("/", 2)
        return cls(id=id, deployment_id=DeploymentId(deployment), attempt=int(attempt), serial=int(serial))

    @property
    def handle(self) -> str:
        return handle(self.deployment_id, self.attempt)

    @property
    def is_over(self) -> bool:
        return self.state in FINAL

    def alive(self, now: datetime) -> list[str]:
        """Return the names under which a credential may still be good at the site."""
        return [key.name for key in self.site_keys if key.expires_at is None or key.expires_at > now]

    # ── issue

    def begin(self, place: Place) -> None:
        """Remember where the site will be asked; only the first wish counts."""
        if self.state is State.NEW:
            self.state, self.place = State.ISSUING, place
            self.site_keys = (SiteKey(name=self.id),)

    def issued(self, expires_at: datetime, now: datetime) -> None:
        self.state, self.reason = State.ISSUED, None
        self._took(self.id, expires_at, now)

    def refused(self, reason: Failure) -> None:
        """Remember the refusal; what a first, half-done try may have left at the site goes with the revoke."""
        self.state, self.reason = State.REFUSED, reason

    def answer(self) -> None:
        """Say how the issue ended; a repeat of it gets the same."""
        about = {"deployment_id": self.deployment_id, "attempt": self.attempt, "serial": self.serial}
        if self.state is State.ISSUED:
            self.emit(vault.CredentialIssued(**about, handle=self.handle, expires_at=self.expires_at))
            return
        ended = Failure(code=f"credential-{self.state.value}", detail=f"this credential is {self.state.value} for good")
        self.emit(vault.CredentialRefused(**about, reason=self.reason or ended))

    # ── the end

    def revoked(self) -> None:
        """Nothing of it is left; what has expired stays so."""
        if self.state is not State.EXPIRED:
            self.state = State.REVOKED
        self.site_keys, self.due_at = (), None
        self.emit(vault.CredentialRevoked(deployment_id=self.deployment_id, attempt=self.attempt, serial=self.serial))

    def expired(self) -> None:
        self.state, self.site_keys, self.due_at = State.EXPIRED, (), None

    # ── renewal

    def is_expired(self, now: datetime) -> bool:
        return self.state is State.ISSUED and self.expires_at is not None and self.expires_at <= now

    def begin_renewal(self, now: datetime) -> str | None:
        """Claim the next renewal and return the name for the site; None, if there is nothing to renew.

        Asked again before it is answered, the name is the same: the site then gives the same credential.
        """
        if self.state is not State.ISSUED or self.expires_at is None:
            self.due_at = None
            return None
        name = f"{self.id}/{self.renewals + 1}"
        if all(key.name != name for key in self.site_keys):
            self.site_keys += (SiteKey(name=name),)
        self.due_at = min(now + RETRY_RENEWAL, self.expires_at)
        return name

    def renewed(self, name: str, expires_at: datetime, now: datetime) -> None:
        self.renewals += 1
        self._took(name, expires_at, now)

    def renewal_refused(self) -> None:
        """Use it to its end: the orchestrator asks for another serial when the site rejects it."""
        self.due_at = self.expires_at

    def _took(self, name: str, expires_at: datetime, now: datetime) -> None:
        alive = [key for key in self.site_keys if key.name != name and key.name in self.alive(now)]
        self.site_keys = (*alive, SiteKey(name=name, expires_at=expires_at))
        self.issued_at, self.expires_at = now, expires_at
        self.due_at = now + (expires_at - now) * RENEW_AT


def secret_of(credential: dict[str, str], serial: int) -> dict[str, object]:
    """Return what goes to the vault: the credential's members, and whose it is."""
    return {**credential, "serial": str(serial)}


def serial_of(secret: dict[str, object] | None) -> int | None:
    """Return the serial of what lies in the vault; None, if nothing does."""
    if secret is None:
        return None
    serial = str(secret.get("serial", ""))
    return int(serial) if serial.isdecimal() else -1
