"""Who asks: the caller as the token proves it, and the refusals that belong to it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from indaco_common.errors import Forbidden, Unauthenticated


class InvalidToken(Unauthenticated):
    """A token was sent and is not accepted; the detail says why and never repeats the token."""

    code, title = "invalid-token", "The token is not accepted"


class InsufficientScope(Forbidden):
    """The token is good but was not issued for this; ``extra["scope"]`` names what would do (RFC 6750 §3.1)."""

    code, title = "insufficient-scope", "Insufficient scope for this resource"

    def __init__(self, scopes: Iterable[str]) -> None:
        wanted = " ".join(sorted(scopes))
        super().__init__(f'Insufficient scope for this resource, scope="{wanted}"', extra={"scope": wanted})


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller; (*issuer*, *subject*) is the identity, all else is what the issuer says about it.

    *issuer* is the canonical name of the trust table, whichever alias the token used. *groups* are paths without a leading
    slash ("cms/analysis"); a role that is more than membership is a last segment of its own ("vo.egi/role=vm_operator").
    *expires_at* is aware, in UTC. *email* and *name* are for display only: they prove nothing.
    """

    issuer: str
    subject: str
    groups: frozenset[str]
    scopes: frozenset[str]
    name: str | None
    email: str | None
    expires_at: datetime

    @property
    def capabilities(self) -> frozenset[str]:
        """The WLCG capabilities among the scopes ("compute.create", "storage.read:/cms"): a token that has any may do that and no more."""
        return frozenset(scope for scope in self.scopes if scope.startswith(("compute.", "storage.")))

    def require_scope(self, *any_of: str) -> None:
        """Raise InsufficientScope unless the token has one of the scopes."""
        if self.scopes.isdisjoint(any_of):
            raise InsufficientScope(any_of)
