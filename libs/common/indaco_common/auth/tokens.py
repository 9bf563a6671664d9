"""Taking a bearer token apart before anything in it is believed."""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, get_args

from indaco_common.auth.issuers import Algorithm
from indaco_common.auth.principal import InvalidToken
from indaco_common.errors import Unauthenticated

MAX_TOKEN = 16 * 1024  # characters
MAX_HEADER = 8 * 1024  # characters of the first part
MAX_KID = 256

_BEARER = re.compile(r"bearer\s*(?P<token>[^\s,]+)\s*(?:,.*)?", re.IGNORECASE | re.DOTALL)
_OPAQUE = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")  # RFC 6750 §2.1
_FORBIDDEN_HEADERS = frozenset({"crit", "b64", "jku", "jwk", "x5u", "x5c", "zip"})
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_PARTS = 3


@dataclass(frozen=True, slots=True)
class Unverified:
    """The parts of a token whose signature nobody has looked at yet."""

    token: str
    alg: str
    kid: str | None
    claims: dict[str, Any]


def bearer_token(authorization: str | None) -> str:
    """Return the token of an Authorization header, as leniently as INDIGO's servers: "Bearer x", "bearer x", "Bearerx".

    Raises: Unauthenticated.
    """
    text = (authorization or "").strip()
    scheme, _, token = text.partition(" ")
    if (
        scheme == "Bearer" and "," not in token and token.split() == [token]
    ):  # as nearly all write it: no need to search
        return token
    match = _BEARER.fullmatch(text)
    if match is None:
        raise Unauthenticated
    return match["token"]


def is_opaque(token: str) -> bool:
    """Say whether *token* is one that only its issuer can read: neither a signed nor an encrypted JWT, nor a part of one."""
    if len(token) > MAX_TOKEN or not _OPAQUE.fullmatch(token):
        return False
    try:
        _json_object(token.partition(".")[0])
    except InvalidToken:
        return True
    return False


def take_apart(token: str) -> Unverified:
    """Return the parts of *token*; nothing of it is true yet.

    Raises: InvalidToken, for every shape that no honest issuer makes.
    """
    if len(token) > MAX_TOKEN:
        raise InvalidToken(f"The token is longer than {MAX_TOKEN} characters")
    parts = token.split(".")
    if len(parts) != _PARTS or len(parts[0]) > MAX_HEADER:
        raise InvalidToken("The token is not a signed JWT")
    header, claims = _json_object(parts[0]), _json_object(parts[1])
    _decode(parts[2])
    if _FORBIDDEN_HEADERS & header.keys():
        raise InvalidToken("The token's header asks for what is not done here (crit, jku, jwk, x5u, x5c, b64 or zip)")
    alg, kid, typ = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(alg, str) or alg not in get_args(Algorithm):
        raise InvalidToken("The token's algorithm is not accepted; it must be an asymmetric signature")
    if kid is not None and not (isinstance(kid, str) and 0 < len(kid) <= MAX_KID):
        raise InvalidToken("The token's key id is not accepted")
    if not isinstance(typ, str) or typ.lower() not in _TYPES:
        raise InvalidToken("The token is not an access token")
    return Unverified(token, alg, kid, claims)


def _json_object(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_decode(part).decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InvalidToken("The token is not a signed JWT") from None
    if not isinstance(value, dict):
        raise InvalidToken("The token is not a signed JWT")
    return value


def _decode(part: str) -> bytes:
    """Decode unpadded base64url in its one canonical spelling, so that a token has one form only."""
    try:
        value = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidToken("The token is not a signed JWT") from None
    if not value or base64.urlsafe_b64encode(value).rstrip(b"=").decode() != part:
        raise InvalidToken("The token is not a signed JWT")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidToken("The token names something twice")
    return found


def _refuse(name: str) -> float:
    raise ValueError(name)
