"""Whom we believe: the trust record of an issuer, and the table in which a token's issuer is looked up."""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Asymmetric only: with a shared secret, whoever can verify can also forge.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]

DEFAULT_GROUP_CLAIMS = ("groups", "wlcg.groups", "eduperson_entitlement", "entitlements")


class TrustedIssuer(BaseModel):
    """One issuer whose tokens are accepted, and what is believed of them.

    Durations are in seconds. An empty *entitlement_namespaces*, *entitlement_authorities* or *allowed_groups* means "any".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1, description="The exact `iss` of its tokens, and where its discovery document is.")
    aliases: tuple[str, ...] = Field((), description="Other spellings of `iss`, often one with a trailing slash.")
    audiences: tuple[str, ...] = Field((), description="One of these must be in the token's `aud`.")
    require_audience: bool = Field(True, description="False: a token without `aud` is accepted.")
    algs: tuple[Algorithm, ...] = Field(("RS256", "ES256"), min_length=1)
    group_claims: tuple[str, ...] = DEFAULT_GROUP_CLAIMS
    entitlement_namespaces: tuple[str, ...] = Field((), description='Accepted URN namespaces: "urn:mace:egi.eu".')
    entitlement_authorities: tuple[str, ...] = Field((), description="Accepted `#authority` parts of group URNs.")
    member_roles: tuple[str, ...] = Field(("member",), description="Roles in a group URN that mean plain membership.")
    allowed_groups: tuple[str, ...] = Field((), description="Group prefixes that this issuer may assert.")
    user_claim: Literal["sub", "voperson_id"] = "sub"
    max_age_s: int = Field(86_400, gt=0, description="A token that lives longer is refused.")
    jwks_uri: str | None = Field(None, description="Where its keys are; from discovery where this is not set.")
    allow_http: bool = Field(False, description="Accept http:// on a loopback address (development).")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.require_audience and not self.audiences:
            raise ValueError("audiences is empty: name this service's audience, or set require_audience to false")
        for url in (self.issuer, self.jwks_uri):
            if url is not None:
                check_url(url, allow_http=self.allow_http)
        return self


def check_url(url: str, *, allow_http: bool) -> None:
    """Raise ValueError unless keys may be fetched from *url*: https, or http on loopback where that is allowed."""
    parts = urlsplit(url)
    if parts.username or parts.password or parts.fragment or not parts.hostname:
        raise ValueError("an issuer's URL has a host, and neither a user nor a fragment")
    is_loopback = _is_loopback(parts.hostname)
    if parts.scheme == "https" and not _is_link_local(parts.hostname):
        return
    if parts.scheme == "http" and allow_http and is_loopback:
        return
    raise ValueError("an issuer's URL must be https:// (http:// on a loopback address where allow_http is set)")


class TrustTable:
    """Finds the record of an ``iss`` by exact comparison: a prefix or a normalised form is how issuers are confused."""

    def __init__(self, issuers: Iterable[TrustedIssuer]) -> None:
        self._issuers = tuple(issuers)
        self._by_name: dict[str, TrustedIssuer] = {}
        for issuer in self._issuers:
            for name in (issuer.issuer, *issuer.aliases):
                if self._by_name.setdefault(name, issuer) is not issuer:
                    raise ValueError(f"two issuers claim the name {name}")

    def __iter__(self) -> Iterator[TrustedIssuer]:
        return iter(self._issuers)

    def find(self, iss: object) -> TrustedIssuer | None:
        return self._by_name.get(iss) if isinstance(iss, str) else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_link_local(host: str) -> bool:
    """Cloud metadata services live on link-local addresses; no issuer does."""
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False
