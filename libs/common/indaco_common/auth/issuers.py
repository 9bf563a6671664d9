"""Whom we believe: the trust record of an issuer, and the table in which a token's issuer is looked up."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from indaco_common.auth.addresses import address_of, is_allowed
from indaco_common.auth.clients import ConfidentialClient, ExchangeClient, LoginClient

# Asymmetric only: with a shared secret, whoever can verify can also forge.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
Profile = Literal["auto", "iam", "wlcg", "aarc", "egi", "keycloak"]

DEFAULT_GROUP_CLAIMS = ("groups", "wlcg.groups", "eduperson_entitlement", "entitlements")
_ENTITLEMENTS = ("eduperson_entitlement", "entitlements")

# What a profile stands for where the record itself says nothing.
_PROFILES: dict[str, dict[str, tuple[str, ...]]] = {
    "auto": {"group_claims": DEFAULT_GROUP_CLAIMS},
    "iam": {"group_claims": ("groups",)},
    "wlcg": {"group_claims": ("wlcg.groups",)},
    "aarc": {"group_claims": _ENTITLEMENTS},
    "egi": {
        "group_claims": _ENTITLEMENTS, "entitlement_namespaces": ("urn:mace:egi.eu",), "entitlement_authorities": ("aai.egi.eu",),
    },
    "keycloak": {"group_claims": ("groups", "roles", "/realm_access/roles")},
}  # fmt: skip


class Introspection(ConfidentialClient):
    """How to ask an issuer about a token (RFC 7662), as a client of it."""

    endpoint: str | None = Field(None, description="Where to ask; from discovery where this is not set.")
    opaque_tokens: bool = Field(False, description="Tokens that are no JWT are this issuer's; of one issuer at most.")


class TrustedIssuer(BaseModel):
    """One issuer whose tokens are accepted, and what is believed of them.

    Durations are in seconds. An empty *entitlement_namespaces*, *entitlement_authorities* or *allowed_groups* means "any". A name in
    *group_claims* that begins with a slash is a JSON pointer: "/resource_access/indaco/roles".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1, description="The exact `iss` of its tokens, and where its discovery document is.")
    aliases: tuple[str, ...] = Field((), description="Other spellings of `iss`, often one with a trailing slash.")
    enabled: bool = Field(True, description="False: its tokens are refused.")
    profile: Profile = Field("auto", description="What kind of issuer it is: where groups are, what must be there.")
    audiences: tuple[str, ...] = Field((), description="One of these must be in the token's `aud`.")
    require_audience: bool = Field(True, description="False: a token without `aud` is accepted.")
    algs: tuple[Algorithm, ...] = Field(("RS256", "ES256"), min_length=1)
    group_source: Literal["token", "userinfo", "introspection"] = Field(
        "token", description="Where groups are looked for when the token names none."
    )
    group_claims: tuple[str, ...] = Field((), description="Where groups are; empty: where the profile has them.")
    entitlement_namespaces: tuple[str, ...] = Field((), description='Accepted URN namespaces: "urn:mace:egi.eu".')
    entitlement_authorities: tuple[str, ...] = Field((), description="Accepted `#authority` parts of group URNs.")
    member_roles: tuple[str, ...] = Field(("member",), description="Roles in a group URN that mean plain membership.")
    allowed_groups: tuple[str, ...] = Field((), description="Group prefixes that this issuer may assert.")
    user_claim: Literal["sub", "voperson_id"] = "sub"
    max_age_s: int = Field(86_400, gt=0, description="A token that lives longer is refused.")
    jwks_uri: str | None = Field(None, description="Where its keys are; from discovery where this is not set.")
    introspection: Introspection | None = None
    login: LoginClient | None = Field(None, description="People can log in from a page, as this client.")
    cli_client_id: str | None = Field(
        None, min_length=1, max_length=255, description="The client that `indaco login` is (device flow); public."
    )
    exchange: ExchangeClient | None = Field(None, description="For deployments that outlive a user's token.")
    ca_bundle: Path | None = Field(None, description="PEM file of the authorities that may vouch for its servers.")
    allow_private: bool = Field(False, description="Accept that its servers have private addresses.")
    allow_http: bool = Field(False, description="Accept http:// on a loopback address (development).")

    @model_validator(mode="before")
    @classmethod
    def _of_its_profile(cls, given: object) -> object:
        """Fill in what the profile says, so that a record shows all that holds for it."""
        if not isinstance(given, dict):
            return given
        profile = given.get("profile", "auto")
        known = _PROFILES.get(profile, {}) if isinstance(profile, str) else {}
        return {**given, **{name: value for name, value in known.items() if not given.get(name)}}

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.require_audience and not self.audiences:
            raise ValueError("audiences is empty: name this service's audience, or set require_audience to false")
        if self.profile == "aarc" and not self.entitlement_namespaces:
            raise ValueError("entitlement_namespaces is empty: name the URN namespaces whose groups count")
        if self.group_source == "introspection" and self.introspection is None:
            raise ValueError("introspection is not set: groups are to be had from there, say as which client")
        for url in (self.issuer, self.jwks_uri, self.introspection.endpoint if self.introspection else None):
            if url is not None:
                self.check_url(url)
        return self

    @property
    def names(self) -> tuple[str, ...]:
        return (self.issuer, *self.aliases)

    def check_url(self, url: str) -> None:
        """Raise ValueError unless this issuer may be asked at *url* (see :func:`check_url`)."""
        check_url(url, allow_http=self.allow_http, allow_private=self.allow_private)


def check_url(url: str, *, allow_http: bool, allow_private: bool = False) -> None:
    """Raise ValueError unless an issuer may be asked at *url*: https, or http on loopback where that is allowed.

    What the address of a name is shows at the connection only, and is judged there by the same rule.
    """
    parts = urlsplit(url)
    if parts.username or parts.password or parts.fragment or not parts.hostname:
        raise ValueError("an issuer's URL has a host, and neither a user nor a fragment")
    address = address_of(parts.hostname)
    if parts.scheme == "http":
        is_loopback = address.is_loopback if address else parts.hostname == "localhost"
        if allow_http and is_loopback:
            return
    elif parts.scheme == "https" and (
        address is None or is_allowed(address, loopback=allow_http, private=allow_private)
    ):
        return
    raise ValueError(
        "an issuer's URL must be https:// at a public address (a private one where allow_private is set; "
        "http:// on a loopback address where allow_http is set)"
    )


class TrustTable:
    """Finds the record of an ``iss`` by exact comparison: a prefix or a normalised form is how issuers are confused."""

    def __init__(self, issuers: Iterable[TrustedIssuer]) -> None:
        """Raises: ValueError, if two records claim one name, or opaque tokens."""
        self._issuers = tuple(issuers)
        self._by_name: dict[str, TrustedIssuer] = {}
        self.opaque: TrustedIssuer | None = None
        for issuer in self._issuers:
            for name in issuer.names:
                if self._by_name.setdefault(name, issuer) is not issuer:
                    raise ValueError(f"two issuers claim the name {name}")
            if issuer.enabled and issuer.introspection is not None and issuer.introspection.opaque_tokens:
                if self.opaque is not None:
                    # Asked one after the other, each would see the tokens of the others.
                    raise ValueError(f"opaque tokens are either {self.opaque.issuer}'s or {issuer.issuer}'s, not both")
                self.opaque = issuer

    def __iter__(self) -> Iterator[TrustedIssuer]:
        return iter(self._issuers)

    def __contains__(self, issuer: object) -> bool:
        """Is this very record in force?"""
        found = self.find(issuer.issuer) if isinstance(issuer, TrustedIssuer) else None
        return found is not None and (found is issuer or found == issuer)

    def find(self, iss: object) -> TrustedIssuer | None:
        """Return the record of an issuer that is trusted now."""
        found = self._by_name.get(iss) if isinstance(iss, str) else None
        return found if found is not None and found.enabled else None
