"""What a client asks of an issuer: where people log in, and tokens for codes, for refresh tokens and for other tokens.

Requests go where the issuer's discovery document says and its record allows. No error holds what was sent or answered, but for the
code of an OAuth error, which is from a small alphabet.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import aiohttp

from indaco_common.auth.clients import Client, ExchangeClient, LoginClient
from indaco_common.auth.discovery import Discovery, Metadata
from indaco_common.auth.fetch import OK, Fetched, FetchFailed, IssuerHttp
from indaco_common.auth.issuers import TrustedIssuer
from indaco_common.auth.remote import SecretOf, basic
from indaco_common.auth.tokens import MAX_TOKEN
from indaco_common.clock import Clock

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a kind
REFRESH_TOKEN = "urn:ietf:params:oauth:token-type:refresh_token"  # noqa: S105
TIMEOUT = aiohttp.ClientTimeout(total=10, connect=2)  # an answer that is not waited for may be a refresh token lost
USUAL_LIFE_S, MAX_LIFE_S = 300, 86_400  # of an access token whose life the issuer does not tell, and at most
MAX_SCOPES, MAX_DIGITS = 200, 20

_CODE = re.compile(r"[a-z0-9_.-]{1,64}")
_REFUSED = frozenset({400, 401, 403})
_NO_SECRET = frozenset("\0\r\n")


class GrantRefused(Exception):
    """The issuer gives nothing for this; *code* is OAuth's: "invalid_grant", "invalid_client" …"""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Granted:
    """What a token endpoint gave; *access_token* is "" where it gave a refresh token alone. *scopes*: what it says was granted."""

    access_token: str = field(repr=False)
    expires_at: datetime
    scopes: frozenset[str]
    refresh_token: str | None = field(default=None, repr=False)
    id_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Want:
    """What a token shall be good for; nothing said: what its client usually asks for."""

    audience: str | None = None
    resource: str | None = None
    scopes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.audience or ''} {self.resource or ''} {' '.join(sorted(self.scopes))}".strip()

    def parameters(self) -> dict[str, str]:
        found = {"audience": self.audience, "resource": self.resource, "scope": " ".join(self.scopes)}
        return {name: value for name, value in found.items() if value}


class OAuthClient:
    """Our side of OAuth 2; one for a process."""

    def __init__(self, http: IssuerHttp, discovery: Discovery, secret_of: SecretOf, clock: Clock) -> None:
        self._http, self._discovery, self._secret_of, self._clock = http, discovery, secret_of, clock

    async def metadata(self, issuer: TrustedIssuer) -> Metadata:
        """Raises: FetchFailed."""
        return await self._discovery.metadata(issuer)

    async def authorization_url(
        self, issuer: TrustedIssuer, client: LoginClient, *, redirect_uri: str, state: str, nonce: str, verifier: str
    ) -> str:
        """Return where to send a browser. Raises: FetchFailed, also if the issuer says that it knows PKCE by plain text alone."""
        metadata = await self.metadata(issuer)
        methods = metadata.values.get("code_challenge_methods_supported")
        if isinstance(methods, list) and "S256" not in methods:
            raise FetchFailed("the issuer does not offer PKCE with S256, and nothing less will do")
        asked = {
            "response_type": "code", "client_id": client.client_id, "redirect_uri": redirect_uri, "state": state, "nonce": nonce,
            "code_challenge": challenge_of(verifier), "code_challenge_method": "S256",
            **Want(client.audience, client.resource, client.scopes).parameters(),
            **({"prompt": client.prompt} if client.prompt else {}),
        }  # fmt: skip
        url = metadata.url("authorization_endpoint")
        return f"{url}{'&' if '?' in url else '?'}{urlencode(asked)}"

    async def redeem(
        self, issuer: TrustedIssuer, client: LoginClient, *, code: str, verifier: str, redirect_uri: str
    ) -> Granted:
        """Return what a code gives. Raises: GrantRefused, FetchFailed."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": redirect_uri,
        }
        if client.resource:
            form["resource"] = client.resource
        return await self._grant(issuer, client, form, client.scopes)

    async def refresh(
        self, issuer: TrustedIssuer, client: Client, refresh_token: str, want: Want, had: Iterable[str] = ()
    ) -> Granted:
        """Return new tokens for a refresh token; *had* are the scopes it has. Raises: GrantRefused, FetchFailed."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, **want.parameters()}
        granted = await self._grant(issuer, client, form, want.scopes or had)
        if not granted.access_token:
            raise FetchFailed("token endpoint: it gave no access token")
        return granted

    async def exchange(self, issuer: TrustedIssuer, client: ExchangeClient, token: str) -> Granted:
        """Return what the issuer gives *client* for a user's access token (RFC 8693). Raises: GrantRefused, FetchFailed."""
        want = Want(client.audience, client.resource, client.scopes)
        form = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN, **want.parameters()}
        return await self._grant(issuer, client, form, client.scopes)

    async def revoke(self, issuer: TrustedIssuer, client: Client, token: str) -> bool:
        """Have the issuer forget a refresh token (RFC 7009); return whether it says so. Never raises: tokens end by themselves."""
        try:
            url = (await self.metadata(issuer)).url("revocation_endpoint")
            answer = await self._post(issuer, client, url, {"token": token, "token_type_hint": "refresh_token"})
        except FetchFailed:
            return False
        return answer.status == OK

    async def _grant(
        self, issuer: TrustedIssuer, client: Client, form: Mapping[str, str], asked: Iterable[str]
    ) -> Granted:
        url = (await self.metadata(issuer)).url("token_endpoint")
        answer = await self._post(issuer, client, url, form)
        if answer.status in _REFUSED:
            code = answer.value.get("error")
            raise GrantRefused(code if isinstance(code, str) and _CODE.fullmatch(code) else f"http_{answer.status}")
        if answer.status != OK:
            raise FetchFailed(f"token endpoint: HTTP status {answer.status}")
        return granted_of(answer.value, asked, self._clock.now())

    async def _post(self, issuer: TrustedIssuer, client: Client, url: str, form: Mapping[str, str]) -> Fetched:
        metadata = await self.metadata(issuer)
        secret = "" if client.is_public else await self._secret_of(client)
        headers, sent = {"Accept": "application/json"}, dict(form)
        methods = metadata.values.get("token_endpoint_auth_methods_supported")
        if client.is_public:
            sent["client_id"] = client.client_id
        elif isinstance(methods, list) and "client_secret_basic" not in methods and "client_secret_post" in methods:
            sent |= {"client_id": client.client_id, "client_secret": secret}
        else:
            headers["Authorization"] = basic(client.client_id, secret)
        try:
            return await self._http.send(issuer, "POST", url, headers=headers, form=sent, timeout=TIMEOUT)
        except FetchFailed as error:
            raise FetchFailed(f"token endpoint: {str(error).partition(':')[0]}") from None


def challenge_of(verifier: str) -> str:
    """Return the code_challenge of a verifier by S256 (RFC 7636 §4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def granted_of(answer: Mapping[str, Any], asked: Iterable[str], now: datetime) -> Granted:
    """Read the answer of a token endpoint (RFC 6749 §5.1, RFC 8693 §2.2.1). Raises: FetchFailed, if it is none."""
    access, refresh = _token(answer, "access_token"), _token(answer, "refresh_token")
    if answer.get("issued_token_type") == REFRESH_TOKEN and not refresh:
        access, refresh = "", access
    elif str(answer.get("token_type", "")).lower() != "bearer":
        raise FetchFailed("token endpoint: it gave no bearer token")
    if not access and not refresh:
        raise FetchFailed("token endpoint: it gave no token")
    said = answer.get("scope")
    scopes = frozenset((said.split() if isinstance(said, str) else list(asked))[:MAX_SCOPES])
    return Granted(
        access, now + _life(answer.get("expires_in")), scopes, refresh or None, _token(answer, "id_token") or None
    )


def _life(said: object) -> timedelta:
    """Return how long an access token lives; some issuers write the number as text."""
    text = str(said) if isinstance(said, int | str) and not isinstance(said, bool) else ""
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) < MAX_DIGITS else USUAL_LIFE_S
    return timedelta(seconds=min(seconds, MAX_LIFE_S))


def _token(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_TOKEN or not value.isascii() or not _NO_SECRET.isdisjoint(value):
        raise FetchFailed(f"token endpoint: its {name} cannot be used")
    return value
