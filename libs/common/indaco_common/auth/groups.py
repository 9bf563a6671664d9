"""Groups from a token's claims: WLCG and INDIGO paths, and AARC-G002/G069 URNs, as one kind of path.

Source: AARC-G069 (urn:NID:NSS[:SUBNS…]:group:GROUP[:SUBGROUP…][:role=ROLE][#AUTHORITY]); WLCG token profile 1.3.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from indaco_common.auth.issuers import TrustedIssuer
from indaco_common.auth.principal import InvalidToken

MAX_GROUPS = 1000
MAX_LENGTH = 255

_SEGMENT = re.compile(r"[A-Za-z0-9_.@+-]{1,128}")
_ROLE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_URN = re.compile(
    r"urn:(?P<nid>[A-Za-z0-9][A-Za-z0-9-]{1,31}):(?P<rest>[^#]+)(?:#(?P<authority>[^#]+))?", re.IGNORECASE
)
_KEYCLOAKS_OWN = frozenset({"offline_access", "uma_authorization"})  # roles that every user of a realm has


@dataclass(frozen=True, slots=True)
class Entitlement:
    """A group URN: *namespace* in lower case, *path* as in :func:`group_path`."""

    namespace: str
    path: str
    role: str | None
    authority: str | None


def groups_of(claims: Mapping[str, object], issuer: TrustedIssuer) -> frozenset[str]:
    """Return the groups that *issuer* may assert and does; a name that is not a plain path is left out.

    Raises: InvalidToken, if a group claim is not a list of strings, or is too long.
    """
    found: set[str] = set()
    for claim in issuer.group_claims:
        for value in _strings(_value(claims, claim), claim):
            group = _group(value, issuer)
            if group is not None and _is_allowed(group, issuer.allowed_groups):
                found.add(group)
    return frozenset(found)


def names_groups(claims: Mapping[str, object], issuer: TrustedIssuer) -> bool:
    """Say whether *claims* tell of groups at all, be it that there are none: where they do not, nothing is known."""
    return any(_value(claims, claim) is not None for claim in issuer.group_claims)


def is_role(group: str) -> bool:
    """Say whether *group* is a role in a group ("vo.egi/role=vm_operator"), which nobody can act for."""
    return "/role=" in group


def group_path(text: str) -> str | None:
    """Return *text* ("/a/b" or "a/b") as "a/b", or None where it is not a plain path.

    Dots, empty and percent-encoded segments are refused rather than resolved: two spellings of a group must not exist.
    """
    path = text.removeprefix("/")
    segments = path.split("/")
    if len(path) > MAX_LENGTH or any(not _SEGMENT.fullmatch(each) or each in {".", ".."} for each in segments):
        return None
    return path


def parse_entitlement(text: str) -> Entitlement | None:
    """Return the parts of a group URN, or None where *text* is not one; the whole string counts."""
    match = _URN.fullmatch(text)
    if match is None:
        return None
    parts = match["rest"].split(":")
    if "group" not in parts[1:]:
        return None
    at = parts.index("group", 1)
    namespace = ":".join(["urn", match["nid"], *parts[:at]]).lower()
    names, role = [unquote(each) for each in parts[at + 1 :]], None
    if names and names[-1].startswith("role="):
        role = names.pop().removeprefix("role=")
        if not _ROLE.fullmatch(role):
            return None
    # A name with a slash inside (sent as %2F) would read as a group and its subgroup.
    path = group_path("/".join(names)) if names and not any("/" in each for each in names) else None
    return Entitlement(namespace, path, role, match["authority"]) if path else None


def _value(claims: Mapping[str, object], claim: str) -> object:
    """Return the value under the name *claim*, or at it where it is a JSON pointer (RFC 6901)."""
    if not claim.startswith("/"):
        return claims.get(claim)
    found: object = claims
    for part in claim[1:].split("/"):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part.replace("~1", "/").replace("~0", "~"))
    return found


def _group(value: str, issuer: TrustedIssuer) -> str | None:
    if issuer.profile == "keycloak" and (value in _KEYCLOAKS_OWN or value.startswith("default-roles-")):
        return None
    if not value.lower().startswith("urn:"):
        return group_path(value)
    entitlement = parse_entitlement(value)
    if entitlement is None:
        return None
    namespaces = {each.lower() for each in issuer.entitlement_namespaces}
    if namespaces and entitlement.namespace not in namespaces:
        return None
    if issuer.entitlement_authorities and entitlement.authority not in issuer.entitlement_authorities:
        return None
    if entitlement.role is None or entitlement.role in issuer.member_roles:
        return entitlement.path
    # "=" is in no plain group name, so that no group can pass for a role.
    return f"{entitlement.path}/role={entitlement.role}"


def _is_allowed(group: str, prefixes: tuple[str, ...]) -> bool:
    if not prefixes:
        return True
    return any(group == prefix or group.startswith(prefix + "/") for prefix in (each.strip("/") for each in prefixes))


def _strings(value: object, claim: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidToken(f"The token's claim {claim} is not a list of names")
    if len(value) > MAX_GROUPS:
        raise InvalidToken(f"The token's claim {claim} has more than {MAX_GROUPS} names")
    return value
