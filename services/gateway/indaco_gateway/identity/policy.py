"""Who may do what: rules make roles of groups, roles and ownership give rights. Decisions alone, without any effect.

A role comes from an issuer's word about groups, never from an e-mail address or a name: those prove nothing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple, Self

import pydantic

from indaco_common.auth import Principal, TrustTable, group_path

Role = Literal["operator", "auditor", "group-admin"]
GroupName = Annotated[str, pydantic.Field(min_length=1, max_length=255)]

MAX_RULES = 1000
_PATTERN = "{group}/"
_ROLE = re.compile(r"role=[A-Za-z0-9_.-]{1,64}")


class Right(Enum):
    """What a request wants with a deployment; who may not even read it is told that it does not exist."""

    READ = "its owner, groups it is shared with, administrators of its group, operators, auditors"
    OWN = "its owner alone"
    CHANGE = "its owner, groups that may change it, administrators of its group, operators; with a token that may write"


class Decision(Enum):
    """What becomes of a request."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    UNSEEN = "unseen"  # to be answered as if there were nothing


class RoleRule(pydantic.BaseModel):
    """Members of *group*, as *issuer* asserts it, have *role*.

    ``operator``: sees, changes and deletes every deployment of the issuer's users. ``auditor``: sees every one. Neither sees secrets.
    Both are for that issuer's users, or *everywhere* for those of all issuers. ``group-admin``: the same as an operator, of the
    deployments of *groups* and of what lies below them; or *group* is a pattern such as "{group}/admins" or "{group}/role=admin", and
    its members administer the group that stands in its place. A role within a group, from an entitlement, is a last segment: "cms/role=admin".
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    role: Role
    issuer: str
    group: GroupName
    groups: tuple[GroupName, ...] = ()
    everywhere: bool = False

    @pydantic.field_validator("group")
    @classmethod
    def _is_a_group(cls, value: str) -> str:
        fixed = value.removeprefix(_PATTERN)
        path, _, last = fixed.rpartition("/")
        role = last if _ROLE.fullmatch(last) else ""
        plain = (path if role else fixed) or ("x" if fixed != value and role else "")
        normal = group_path(plain)
        if normal is None:
            raise ValueError('is a group ("cms/admins"), one with a role ("cms/role=admin"), or "{group}/" and such')
        return value if fixed != value else value.removeprefix("/")

    @pydantic.field_validator("groups")
    @classmethod
    def _are_groups(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        paths = tuple(group_path(value) for value in values)
        if None in paths:
            raise ValueError('are groups: "cms", "cms/analysis"')
        return tuple(path for path in paths if path)

    @pydantic.model_validator(mode="after")
    def _is_consistent(self) -> Self:
        is_pattern = self.group.startswith(_PATTERN)
        if self.role == "group-admin":
            if self.everywhere:
                raise ValueError("everywhere: groups are those of one issuer")
            if is_pattern is bool(self.groups):
                raise ValueError('a group-admin has either groups, or a pattern such as "{group}/admins" for its group')
        elif is_pattern or self.groups:
            raise ValueError("groups and {group} are for the role group-admin")
        return self

    def administered(self, groups: Iterable[str]) -> frozenset[str]:
        """Return what a member of *groups* administers by this rule."""
        if self.group.startswith(_PATTERN):
            end = self.group.removeprefix("{group}")
            return frozenset(group.removesuffix(end) for group in groups if group.endswith(end) and group != end)
        return frozenset(self.groups) if self.group in groups else frozenset()


class Ownership(NamedTuple):  # made with each request
    """What a decision about a deployment takes: whose it is, its group, and with which groups of its owner's issuer it is shared."""

    owner: tuple[str, str]  # issuer, subject
    group: tuple[str, str]  # issuer, path
    shares: Mapping[str, str] = MappingProxyType({})  # path → "read" or "change"


@dataclass(frozen=True, slots=True)
class Roles:
    """What rules make of one caller: the issuers whose deployments it operates and audits ("*": all), and the groups it administers."""

    issuer: str
    operated: frozenset[str] = frozenset()
    audited: frozenset[str] = frozenset()
    administered: frozenset[str] = frozenset()

    def operates(self, issuer: str) -> bool:
        """Say whether the caller is an operator for deployments of *issuer*'s users."""
        return not self.operated.isdisjoint((issuer, ANY))

    def reads_all(self, issuer: str) -> bool:
        """Say whether the caller may see every deployment of *issuer*'s users: operators and auditors."""
        return self.operates(issuer) or not self.audited.isdisjoint((issuer, ANY))

    def administers(self, issuer: str, group: str) -> bool:
        """Say whether the caller is an administrator of the group, or of one that it lies below."""
        if issuer != self.issuer:
            return False
        return any(group == each or group.startswith(each + "/") for each in self.administered)

    @property
    def everywhere(self) -> tuple[str, ...]:
        """The roles that hold for the users of all issuers."""
        return tuple(name for name, what in (("operator", self.operated), ("auditor", self.audited)) if ANY in what)

    @property
    def names(self) -> tuple[str, ...]:
        found = {"operator": self.operated, "auditor": self.audited, "group-admin": self.administered}
        return ("user", *(name for name, what in found.items() if what))


ANY = "*"


class Policy:
    """The rules in force."""

    def __init__(self, rules: Iterable[RoleRule], issuers: TrustTable) -> None:
        """Raises: ValueError, if there are too many rules, or one is of an issuer that is not in the table."""
        self._rules: dict[str, list[RoleRule]] = {}
        for count, rule in enumerate(rules):
            if count >= MAX_RULES:
                raise ValueError(f"there are more than {MAX_RULES} rules for roles")
            issuer = next((each.issuer for each in issuers if rule.issuer in each.names), None)
            if issuer is None:
                raise ValueError(
                    f"a rule for the role {rule.role} is of the issuer {rule.issuer}, which is not trusted"
                )
            self._rules.setdefault(issuer, []).append(rule)

    def roles(self, principal: Principal) -> Roles:
        operated, audited, administered = set[str](), set[str](), set[str]()
        for rule in self._rules.get(principal.issuer, ()):
            if rule.role == "group-admin":
                administered |= rule.administered(principal.groups)
            elif rule.group in principal.groups:
                reach = ANY if rule.everywhere else principal.issuer
                (operated if rule.role == "operator" else audited).add(reach)
        return Roles(principal.issuer, frozenset(operated), frozenset(audited), frozenset(administered))

    def decide(self, principal: Principal, facts: Ownership, right: Right) -> Decision:
        """Decide by who the caller is; whether its token may write is another matter."""
        if (principal.issuer, principal.subject) == facts.owner:
            return Decision.ALLOWED
        roles = self.roles(principal)
        shared = _shared(principal, facts)
        may_change = roles.operates(facts.owner[0]) or roles.administers(*facts.group) or "change" in shared
        if not (may_change or shared or roles.reads_all(facts.owner[0])):
            return Decision.UNSEEN
        if right is Right.READ or (right is Right.CHANGE and may_change):
            return Decision.ALLOWED
        return Decision.REFUSED


def _shared(principal: Principal, facts: Ownership) -> frozenset[str]:
    """Return what the caller's groups may: a group of another issuer is another group, whatever it is called."""
    if principal.issuer != facts.owner[0]:
        return frozenset()
    return frozenset(what for group, what in facts.shares.items() if group in principal.groups)
