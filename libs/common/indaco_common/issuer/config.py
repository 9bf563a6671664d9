"""What the embedded issuer is told: its users, its clients, how long things live; and where its keys are kept."""

import uuid
from typing import Annotated, Literal, Protocol, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from indaco_common.auth.groups import group_path
from indaco_common.ids import NAMESPACE

Grant = Literal[
    "authorization_code",
    "refresh_token",
    "client_credentials",
    "urn:ietf:params:oauth:grant-type:device_code",
]
DEVICE_CODE: Grant = "urn:ietf:params:oauth:grant-type:device_code"
DEFAULT_SCOPES = ("openid", "profile", "email", "offline_access", "groups", "wlcg.groups")

_LOOPBACK = frozenset({"127.0.0.1", "[::1]", "localhost"})


def _group(text: str) -> str:
    path = group_path(text)
    if path is None:
        raise ValueError("a group is a plain path: letters, digits, _ . - + @ and slashes")
    return path


Group = Annotated[str, AfterValidator(_group)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class User(_Model):
    """A person who can log in; *password_hash* is made by :func:`indaco_common.issuer.hash_password`."""

    username: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.@-]+$")
    password_hash: str = Field(repr=False)
    name: str = ""
    email: str | None = None
    groups: tuple[Group, ...] = ()

    @property
    def subject(self) -> str:
        """The ``sub`` of this user: opaque, and the same on every installation and after every restart."""
        return str(uuid.uuid5(NAMESPACE, f"issuer-user\n{self.username}"))


class Client(_Model):
    """A program that may ask for tokens; public (no secret) where *secret_hash* is not set.

    *groups* are those of its own tokens (client credentials). *skip_consent* is for the installation's own dashboard only.
    """

    client_id: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")
    name: str = ""
    secret_hash: str | None = Field(None, repr=False)
    grants: tuple[Grant, ...] = ("authorization_code", "refresh_token")
    redirect_uris: tuple[str, ...] = ()
    scopes: tuple[str, ...] = DEFAULT_SCOPES
    groups: tuple[Group, ...] = ()
    skip_consent: bool = False

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if "client_credentials" in self.grants and self.secret_hash is None:
            raise ValueError(f"client {self.client_id}: client_credentials needs a secret")
        if "authorization_code" in self.grants and not self.redirect_uris:
            raise ValueError(f"client {self.client_id}: authorization_code needs a redirect URI")
        for uri in self.redirect_uris:
            _check_redirect(uri)
        return self

    @property
    def title(self) -> str:
        return self.name or self.client_id

    def accepts_redirect(self, uri: str) -> bool:
        """Say whether *uri* is registered; on a loopback address any port will do (RFC 8252 §7.3)."""
        return uri in self.redirect_uris or any(_same_but_port(uri, known) for known in self.redirect_uris)


class IssuerConfig(_Model):
    """The embedded issuer; durations in seconds. It is for development and demonstrations: its state is in memory."""

    issuer: str = Field(description="Its URL, the `iss` of its tokens; no trailing slash.")
    audiences: tuple[str, ...] = Field(
        ("indaco",), min_length=1, description="What tokens may be for; the first unless asked."
    )
    users: tuple[User, ...] = ()
    clients: tuple[Client, ...] = ()
    signing_alg: Literal["RS256", "ES256"] = "RS256"
    access_token_s: int = Field(3600, gt=0)
    refresh_token_s: int = Field(30 * 86_400, gt=0)
    session_s: int = Field(8 * 3600, gt=0)
    device_code_s: int = Field(600, gt=0)
    device_interval_s: int = Field(5, ge=1)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        parts = urlsplit(self.issuer)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or self.issuer.endswith("/"):
            raise ValueError("issuer is an http(s) URL without a query and without a trailing slash")
        for what, names in (
            ("users", [user.username for user in self.users]),
            ("clients", [client.client_id for client in self.clients]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"two {what} have the same name")
        return self

    @property
    def path(self) -> str:
        """The path that the issuer's URL ends with: "" or "/something"."""
        return urlsplit(self.issuer).path

    @property
    def is_https(self) -> bool:
        return self.issuer.startswith("https:")


class KeyStore(Protocol):
    """Where the private signing keys are kept between starts, as one JSON document (a JWKS)."""

    async def load(self) -> str | None: ...

    async def save(self, jwks_json: str) -> None: ...


def _check_redirect(uri: str) -> None:
    parts = urlsplit(uri)
    if not parts.scheme or parts.fragment or parts.scheme in {"javascript", "data", "vbscript", "file"}:
        raise ValueError("a redirect URI is absolute, has no fragment and no scheme that a browser would run")
    if not uri.isascii() or any(char in uri for char in " \"'<>;\\"):
        raise ValueError("a redirect URI has no spaces, quotes or semicolons")


def _same_but_port(uri: str, known: str) -> bool:
    try:
        asked, ours = urlsplit(uri), urlsplit(known)
        _ = asked.port  # raises for what is not a number
    except ValueError:
        return False
    host = ours.netloc.rsplit(":", 1)[0] if ours.port else ours.netloc
    if ours.scheme != "http" or host not in _LOOPBACK:
        return False
    netloc = f"{host}:{asked.port}" if asked.port else host
    return uri == asked._replace(netloc=netloc).geturl() and ours._replace(netloc="") == asked._replace(netloc="")
