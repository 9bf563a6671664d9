"""From the claims of a token that has been proved genuine to a :class:`Principal`: decisions, without any effect."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from indaco_common.auth.groups import groups_of
from indaco_common.auth.issuers import TrustedIssuer
from indaco_common.auth.principal import InvalidToken, Principal

SKEW = timedelta(seconds=60)
MAX_SUBJECT = 255
MAX_NAME = 255

_ID_TOKEN_CLAIMS = frozenset({"nonce", "at_hash", "c_hash"})
_ACCESS = {"typ": frozenset({"bearer", "jwt", "at+jwt"}), "token_use": frozenset({"access"})}  # what some issuers write


def check_claims(claims: Mapping[str, object], issuer: TrustedIssuer, now: datetime) -> None:
    """Raise InvalidToken unless *claims* are those of an access token that is for us, by *issuer*, and valid *now*."""
    _expiry(claims, issuer, now)
    _check_audience(claims.get("aud"), issuer)
    if _ID_TOKEN_CLAIMS & claims.keys():
        raise InvalidToken("This is an ID token; send the access token")
    for name, words in _ACCESS.items():
        if name in claims and str(claims[name]).lower() not in words:
            raise InvalidToken("This is not an access token; send the access token")
    if claims.get("cnf"):
        raise InvalidToken(
            "The token is bound to a key (DPoP or mutual TLS), which is not checked here; send a bearer token"
        )
    if "events" in claims:
        raise InvalidToken("This is a security event and not an access token")
    if issuer.profile == "wlcg" and "wlcg.ver" not in claims:
        raise InvalidToken("The token lacks wlcg.ver, which its issuer's profile needs")
    if not str(claims.get("wlcg.ver", "1.0")).startswith("1."):
        raise InvalidToken("The token is of an unknown version of the WLCG profile")
    subject_of(claims, issuer)


def principal_of(claims: Mapping[str, object], issuer: TrustedIssuer, now: datetime) -> Principal:
    """Return whom *claims* that hold (:func:`check_claims`) are about. Raises: InvalidToken, if their groups are malformed."""
    return Principal(
        issuer=issuer.issuer,
        subject=subject_of(claims, issuer),
        groups=groups_of(claims, issuer),
        scopes=_scopes(claims),
        name=_text(claims.get("name")) or _text(claims.get("preferred_username")),
        email=_text(claims.get("email")),
        expires_at=_expiry(claims, issuer, now),
    )


def subject_of(claims: Mapping[str, object], issuer: TrustedIssuer) -> str:
    """Return who it is at *issuer*. Raises: InvalidToken."""
    subject = claims.get(issuer.user_claim)
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT or not _is_plain(subject):
        raise InvalidToken(f"The token's claim {issuer.user_claim} does not name a subject")
    return subject


def _expiry(claims: Mapping[str, object], issuer: TrustedIssuer, now: datetime) -> datetime:
    expires_at, not_before, issued_at = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if expires_at is None:
        raise InvalidToken("The token never expires; one with an expiry is needed")
    if now >= expires_at + SKEW:
        raise InvalidToken("The token has expired")
    if any(each is not None and each > now + SKEW for each in (not_before, issued_at)):
        raise InvalidToken("The token is not valid yet")
    if expires_at - (issued_at or now) > timedelta(seconds=issuer.max_age_s):
        raise InvalidToken(f"The token lives longer than {issuer.max_age_s} s")
    return expires_at


def _time(claims: Mapping[str, object], name: str) -> datetime | None:
    value = claims.get(name)
    if value is None:
        return None
    # Whole seconds only: a float may be infinite or lose precision, and no issuer that we know sends one.
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidToken(f"The token's claim {name} is not a number of seconds")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        raise InvalidToken(f"The token's claim {name} is out of range") from None


def _check_audience(value: object, issuer: TrustedIssuer) -> None:
    if value is None and not issuer.require_audience:
        return
    audiences = [value] if isinstance(value, str) else value
    if not isinstance(audiences, list) or not all(isinstance(each, str) for each in audiences):
        raise InvalidToken("The token is not for an audience; ask its issuer for one for this service")
    if issuer.audiences and not set(audiences) & set(issuer.audiences):
        raise InvalidToken("The token is for another service; its audience is not accepted here")


def _scopes(claims: Mapping[str, object]) -> frozenset[str]:
    value = claims.get("scope", claims.get("scp"))
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list):
        return frozenset(each for each in value if isinstance(each, str))
    return frozenset()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable() else None


def _is_plain(subject: str) -> bool:
    return subject.isascii() and subject.isprintable() and subject.strip() == subject
