"""What the endpoints for programs share: OAuth's errors, its forms, and the authentication of clients (RFC 6749)."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus

from aiohttp import web

from indaco_common.clock import Clock
from indaco_common.issuer import hashes
from indaco_common.issuer.config import DEFAULT_SCOPES, Client, IssuerConfig, User
from indaco_common.issuer.keyring import KeyRing, Minter
from indaco_common.issuer.state import Attempts, State

_MAX_VALUE = 4096  # characters of one field


class OAuthError(Exception):
    """An answer of RFC 6749 §5.2: *error* is for the program, *description* for whoever reads its log."""

    def __init__(
        self, error: str, description: str, *, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers

    def response(self) -> web.Response:
        body = {"error": self.error, "error_description": self.description}
        return web.json_response(body, status=self.status, headers=self.headers)


@dataclass(frozen=True, slots=True)
class Desk:
    """All that an endpoint needs; one for an issuer."""

    config: IssuerConfig
    clock: Clock
    keys: KeyRing
    minter: Minter
    state: State
    client_attempts: Attempts
    users: Mapping[str, User]
    subjects: Mapping[str, User]
    clients: Mapping[str, Client]

    def url(self, path: str) -> str:
        return self.config.issuer + path

    def scopes(self, client: Client, asked: str | None) -> frozenset[str]:
        """Return the scopes of *asked* that *client* may have; all that are usual where it asks for none.

        Raises: OAuthError.
        """
        if not asked:
            return frozenset(client.scopes) & frozenset(DEFAULT_SCOPES) or frozenset(client.scopes)
        granted = frozenset(asked.split()) & frozenset(client.scopes)
        if not granted:
            raise OAuthError("invalid_scope", "None of the scopes may be given to this client")
        return granted

    def audience(self, form: Mapping[str, str]) -> str:
        """Return the audience that is asked for (RFC 8707 `resource`, or `audience`), or the usual one.

        Raises: OAuthError.
        """
        asked = form.get("resource") or form.get("audience") or self.config.audiences[0]
        if asked not in self.config.audiences:
            raise OAuthError("invalid_target", "Tokens for this audience are not issued here")
        return asked


async def read_form(request: web.Request) -> dict[str, str]:
    """Return the fields of an OAuth form.

    Raises: OAuthError, if it is not a form, or a field occurs twice or is too long.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "The body must be application/x-www-form-urlencoded")
    form: dict[str, str] = {}
    for name, value in (await request.post()).items():
        if name in form or not isinstance(value, str) or len(value) > _MAX_VALUE:
            raise OAuthError("invalid_request", "A field occurs twice or is too long")
        form[name] = value
    return form


async def authenticate_client(desk: Desk, request: web.Request, form: Mapping[str, str]) -> Client:
    """Return the client that asks, by HTTP Basic, by the form, or (public clients) by its name alone.

    Raises: OAuthError invalid_client; slow_down after five wrong secrets within a minute.
    """
    name, secret = _credentials(request, form)
    client = desk.clients.get(name)
    if client is not None and client.secret_hash is None and not secret:
        return client
    if client is not None and client.secret_hash is not None and await _is_right(desk, client, secret):
        return client
    challenge = {"WWW-Authenticate": 'Basic realm="indaco issuer"'} if "Authorization" in request.headers else None
    raise OAuthError("invalid_client", "The client is unknown or its secret is wrong", status=401, headers=challenge)


async def _is_right(desk: Desk, client: Client, secret: str) -> bool:
    """Check the secret; five wrong ones within a minute close the client for the rest of it."""
    wait_s = desk.client_attempts.wait_s(client.client_id)
    if wait_s > 0:
        headers = {"Retry-After": str(int(wait_s) + 1)}
        raise OAuthError("slow_down", "Too many wrong secrets", status=429, headers=headers)
    assert client.secret_hash is not None
    if await hashes.verify(secret, client.secret_hash):
        return True
    if client.secret_hash.startswith("scrypt$"):  # a password may be guessed; a long random secret may not
        desk.client_attempts.failed(client.client_id)
    return False


def _credentials(request: web.Request, form: Mapping[str, str]) -> tuple[str, str]:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        name, _, secret = base64.b64decode(value.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise OAuthError("invalid_client", "The Authorization header cannot be read", status=401) from None
    return unquote_plus(name), unquote_plus(secret)
