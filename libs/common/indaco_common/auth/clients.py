"""What we are at an issuer: a client of it for each thing that we do there, and where the secret of each is."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,255}$")]  # RFC 6749 §3.3
Role = Literal["login", "exchange"]


class Client(BaseModel):
    """A client of an issuer. Its secret is in a file, or in the vault as ``client_secret``; a public client has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client_id: str = Field(min_length=1, max_length=255)
    client_secret_file: Path | None = Field(None, description="A file that holds the secret and nothing else.")
    client_secret_vault: str | None = Field(
        None, pattern=r"^issuers/[A-Za-z0-9._-]{1,100}$", description='Its path in the vault: "issuers/iam".'
    )

    @property
    def is_public(self) -> bool:
        return self.client_secret_file is None and self.client_secret_vault is None

    @model_validator(mode="after")
    def _has_its_secret_once(self) -> Self:
        if self.client_secret_file is not None and self.client_secret_vault is not None:
            raise ValueError("set client_secret_file or client_secret_vault, one of them")
        return self


class ConfidentialClient(Client):
    """A client that has a secret."""

    @model_validator(mode="after")
    def _has_a_secret(self) -> Self:
        if self.is_public:
            raise ValueError("set client_secret_file or client_secret_vault, one of them")
        return self


class LoginClient(Client):
    """As what the gateway lets people log in from a page. Its redirect URI is the gateway's public URL with ``/v1/login/callback``."""

    scopes: tuple[Scope, ...] = ("openid", "profile", "email", "offline_access")
    audience: str | None = Field(None, description="What tokens are asked for, as the parameter `audience`.")
    resource: str | None = Field(None, description="The same, as RFC 8707 has it: a URI.")
    prompt: Literal["login", "consent", "select_account"] | None = Field(
        None, description="`consent`: for issuers that give refresh tokens for nothing less."
    )

    @model_validator(mode="after")
    def _asks_who_it_is(self) -> Self:
        if "openid" not in self.scopes:
            raise ValueError("scopes lack openid: without an ID token nobody knows who has logged in")
        return self


class ExchangeClient(ConfidentialClient):
    """As what the gateway exchanges a user's access token for tokens that last as long as deployments do (RFC 8693).

    *required*: a deployment of whom no token can be exchanged is refused.
    """

    scopes: tuple[Scope, ...] = ("openid", "profile", "offline_access")
    audience: str | None = Field(None, description="What tokens are asked for, as the parameter `audience`.")
    resource: str | None = Field(None, description="The same, as RFC 8707 has it: a URI.")
    required: bool = False
