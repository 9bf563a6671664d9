"""Authentication: bearer tokens (JWT) of trusted OpenID Connect issuers become a :class:`Principal`."""

from indaco_common.auth.authenticator import Authenticator
from indaco_common.auth.groups import Entitlement, group_path, groups_of, parse_entitlement
from indaco_common.auth.issuers import Algorithm, TrustedIssuer, TrustTable
from indaco_common.auth.keys import KeyCache
from indaco_common.auth.principal import InsufficientScope, InvalidToken, Principal
from indaco_common.auth.tokens import bearer_token

__all__ = [
    "Algorithm",
    "Authenticator",
    "Entitlement",
    "InsufficientScope",
    "InvalidToken",
    "KeyCache",
    "Principal",
    "TrustTable",
    "TrustedIssuer",
    "bearer_token",
    "group_path",
    "groups_of",
    "parse_entitlement",
]
