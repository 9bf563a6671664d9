"""Tokens that act for a user while nobody is there: kept for each user and issuer, renewed by whichever service needs one."""

import hashlib

from indaco_common.auth.kept import Access
from indaco_common.auth.kept_tokens import KeptTokens
from indaco_common.auth.oauth_client import Want
from indaco_common.ids import user_id


def delegation_path(issuer: str, subject: str) -> str:
    """Return where the tokens of a user are in the vault: messages need carry no more than whose deployment it is."""
    return f"users/{user_id(issuer, subject)}/tokens/{hashlib.sha256(issuer.encode()).hexdigest()[:32]}"


async def fresh_access_token(
    tokens: KeptTokens,
    issuer: str,
    subject: str,
    *,
    audience: str | None = None,
    resource: str | None = None,
    scopes: tuple[str, ...] = (),
) -> Access:
    """Return an access token of a user for a service, good for a minute at least, if its issuer makes such.

    *audience*, *resource* and *scopes* are what it shall be good for; nothing: what was asked for at the exchange. A new one is fetched
    a minute before the old one ends, by one process at a time. Raises: TokensLost, if the user has to come again; Unavailable.
    """
    return await tokens.fresh(delegation_path(issuer, subject), Want(audience, resource, scopes))
