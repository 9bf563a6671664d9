"""Authentication: bearer tokens (JWT) of trusted OpenID Connect issuers become a :class:`Principal`."""

from indaco_common.auth.authenticator import Authenticator
from indaco_common.auth.clients import Client, ExchangeClient, LoginClient
from indaco_common.auth.delegation import delegation_path, fresh_access_token
from indaco_common.auth.discovery import Discovery, Metadata
from indaco_common.auth.fetch import FetchFailed, IssuerHttp
from indaco_common.auth.groups import Entitlement, group_path, groups_of, is_role, parse_entitlement
from indaco_common.auth.issuers import Algorithm, Introspection, TrustedIssuer, TrustTable
from indaco_common.auth.kept import Kept, asked_of
from indaco_common.auth.kept_tokens import KeptTokens, TokensLost
from indaco_common.auth.keys import KeyCache
from indaco_common.auth.oauth_client import Granted, GrantRefused, OAuthClient, Want
from indaco_common.auth.principal import InsufficientScope, InvalidToken, Principal
from indaco_common.auth.tokens import bearer_token

__all__ = [
    "Algorithm",
    "Authenticator",
    "Client",
    "Discovery",
    "Entitlement",
    "ExchangeClient",
    "FetchFailed",
    "GrantRefused",
    "Granted",
    "InsufficientScope",
    "Introspection",
    "InvalidToken",
    "IssuerHttp",
    "Kept",
    "KeptTokens",
    "KeyCache",
    "LoginClient",
    "Metadata",
    "OAuthClient",
    "Principal",
    "TokensLost",
    "TrustTable",
    "TrustedIssuer",
    "Want",
    "asked_of",
    "bearer_token",
    "delegation_path",
    "fresh_access_token",
    "group_path",
    "groups_of",
    "is_role",
    "parse_entitlement",
]
