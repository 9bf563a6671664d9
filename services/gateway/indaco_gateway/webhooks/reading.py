"""May somebody read a deployment, of whom no token is at hand, but what one said within the last day?"""

from indaco_common.auth import Principal
from indaco_common.contracts.values import Owner
from indaco_gateway.identity.access import Access, Right
from indaco_gateway.identity.policy import Decision
from indaco_gateway.model.operation import Operation
from indaco_gateway.model.subscription import Claims


class ClaimedReaders:
    """Asks the policy in force, so that shares that were taken away and rules that have changed count at once."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def may_read(self, owner: Owner, claims: Claims, operation: Operation) -> bool:
        return self._access.decide(_principal(owner, claims), operation, Right.READ) is Decision.ALLOWED

    def has_role(self, owner: Owner, claims: Claims) -> bool:
        return len(self._access.roles(_principal(owner, claims)).names) > 1  # everybody is a user


def _principal(owner: Owner, claims: Claims) -> Principal:
    return Principal(
        issuer=owner.issuer, subject=owner.subject, groups=frozenset(claims.groups), scopes=frozenset(claims.scopes), name=None,
        email=None, expires_at=claims.expire_at,
    )  # fmt: skip
