"""One login from a page, while the browser is at the issuer: what it must bring back, and whether what it brings is that.

Nothing of it is kept here. One random number in a cookie is all there is; state, nonce and PKCE verifier are made from it, from where the login is
to lead and from when it ends, so that another browser, another issuer or another page has other ones.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Self

from pydantic import AwareDatetime

from indaco_common.errors import Invalid
from indaco_common.store import Aggregate

LIFE = timedelta(minutes=10)
SKEW = timedelta(seconds=60)
MAX_RETURN_TO = 1024  # characters; it travels in a cookie
MAX_ISSUER = 512

_SEED = re.compile(r"[A-Za-z0-9_-]{43}")
_MAX_COOKIE = 4096
_TAG = 8  # characters of the state that tell logins in several tabs apart


class LoginFailed(Invalid):
    """A login that cannot go on; the sentence says how to begin again."""

    code, title = "login-failed", "The login did not succeed"


class SpentLogin(Aggregate):
    """The state of a login that has come back, by its digest: it does so once."""

    KIND: ClassVar[str] = "login"

    spent_at: AwareDatetime | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One login; *return_to* is a path of ours, *expires_at* in whole seconds."""

    seed: str = field(repr=False)
    issuer: str
    return_to: str
    expires_at: datetime

    @classmethod
    def begin(cls, issuer: str, return_to: str, now: datetime) -> Self:
        return cls(secrets.token_urlsafe(32), issuer, return_to, now.replace(microsecond=0) + LIFE)

    @classmethod
    def of_cookie(cls, text: str) -> "Attempt | None":
        """Return what a cookie says; None for what we cannot have written."""
        try:
            if len(text) > _MAX_COOKIE:
                return None
            value = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            seed, issuer, return_to, expires_at = value
            if not (_SEED.fullmatch(seed) and isinstance(issuer, str) and is_path(return_to)):
                return None
            return cls(seed, issuer, return_to, datetime.fromtimestamp(int(expires_at), UTC))
        except (ValueError, TypeError, OverflowError, OSError, RecursionError, binascii.Error):
            return None

    def cookie(self) -> str:
        content = json.dumps([self.seed, self.issuer, self.return_to, int(self.expires_at.timestamp())])
        return base64.urlsafe_b64encode(content.encode()).rstrip(b"=").decode()

    @property
    def state(self) -> str:
        return self._made("state")

    @property
    def nonce(self) -> str:
        return self._made("nonce")

    @property
    def verifier(self) -> str:
        return self._made("code_verifier")

    def check(self, state: str, now: datetime) -> None:
        """Raises: LoginFailed, unless it is this login that comes back, and in time.

        The cookie is the browser's to make up: one that ends later than any of ours would be noted as spent for as long.
        """
        if not hmac.compare_digest(self.state, state) or not now < self.expires_at <= now + LIFE + SKEW:
            raise not_begun()

    def _made(self, what: str) -> str:
        bound = f"{what}\n{self.issuer}\n{self.return_to}\n{int(self.expires_at.timestamp())}"
        made = hmac.new(self.seed.encode(), bound.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


def not_begun() -> LoginFailed:
    return LoginFailed(
        "This login was not begun in this browser, was used before, or took longer than 10 minutes; begin again"
    )


def tag_of(state: str) -> str:
    """Return the part of a state by which its cookie is found."""
    return state[:_TAG]


def digest_of(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()


def is_path(text: object) -> bool:
    """Is it a path on this server, however a browser reads it? Two slashes, a backslash or a scheme lead elsewhere."""
    if not isinstance(text, str) or not 0 < len(text) <= MAX_RETURN_TO:
        return False
    is_plain = text.isascii() and text.isprintable() and not set(text) & set(' \\"<>')
    return is_plain and text.startswith("/") and not text.startswith("//")


def check_issuer(names: str, given: str | None, *, is_promised: bool) -> None:
    """Check who says that it answers (RFC 9207), against mix-ups. Raises: LoginFailed.

    *names* is how the issuer's document names it, *is_promised* whether the document says that answers name it.
    """
    if given is None and not is_promised:
        return
    if given != names:
        raise LoginFailed("The answer is not from the issuer at which this login was begun; begin again")


def check_id_token(claims: Mapping[str, object], *, client_id: str, nonce: str, now: datetime) -> None:
    """Check the claims of an ID token that the issuer has signed (OpenID Connect Core §3.1.3.7). Raises: LoginFailed."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    expiry, issued = (_time(claims.get(name)) for name in ("exp", "iat"))
    given = claims.get("nonce")
    if (
        client_id not in audiences
        or claims.get("azp", client_id) != client_id
        or (len(audiences) > 1 and "azp" not in claims)
    ):
        raise LoginFailed("The issuer's ID token is for another client")
    if expiry is None or now >= expiry + SKEW or issued is None or issued > now + SKEW:
        raise LoginFailed("The issuer's ID token is not valid now; is the clock right?")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
        raise LoginFailed("The issuer's ID token is of another login; begin again")


def _time(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        return None
