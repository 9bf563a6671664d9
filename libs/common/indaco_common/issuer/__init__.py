"""The OpenID Connect issuer of the embedded mode: authorization code with PKCE, device flow, client credentials, refresh.

It is for development and demonstrations. A federation trusts its own issuers (INDIGO IAM, EGI Check-in, Keycloak …).
"""

from indaco_common.issuer.app import ISSUER, Issuer, create_app
from indaco_common.issuer.config import DEFAULT_SCOPES, DEVICE_CODE, Client, Grant, IssuerConfig, KeyStore, User
from indaco_common.issuer.hashes import hash_password, hash_secret

__all__ = [
    "DEFAULT_SCOPES",
    "DEVICE_CODE",
    "ISSUER",
    "Client",
    "Grant",
    "Issuer",
    "IssuerConfig",
    "KeyStore",
    "User",
    "create_app",
    "hash_password",
    "hash_secret",
]
