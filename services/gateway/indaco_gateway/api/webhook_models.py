"""Webhooks as /v1 takes and shows them."""

from typing import Annotated

import pydantic
from pydantic import AwareDatetime, ConfigDict, Field

from indaco_gateway.model.delivery import Delivery, DeliveryState
from indaco_gateway.model.subscription import MAX_PATTERNS, Scope, Subscription, SubscriptionState
from indaco_gateway.webhooks.destinations import MAX_URL

_LINE = r"^[^\x00-\x1f\x7f]*$"

Pattern = Annotated[str, Field(max_length=100, examples=["deployment.*"])]
Patterns = Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=MAX_PATTERNS)]
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL, examples=["https://example.org/hook"])]
GroupPath = Annotated[str, Field(min_length=1, max_length=255, pattern=_LINE)]
DeploymentName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]
Description = Annotated[str, Field(max_length=200, pattern=_LINE)]


class NewSubscription(pydantic.BaseModel):
    """A webhook. *types*: event types, such as ``deployment.failed``, or patterns with ``*`` for a word; *scope* ``own``: your own
    deployments, ``readable``: all that you may read. *group* and *deployment* narrow it.
    """

    model_config = ConfigDict(extra="forbid")

    url: Url
    types: Patterns = ("*",)
    scope: Scope = "own"
    group: GroupPath | None = None
    deployment: DeploymentName | None = None
    description: Description = ""


class SubscriptionPatch(pydantic.BaseModel):
    """A JSON merge patch: what is not named stays; null for *group* or *deployment* takes it away."""

    model_config = ConfigDict(extra="forbid")

    url: Url = Field(
        default_factory=str
    )  # a factory's value is in no schema: what is not named has no default, it stays
    types: Patterns = Field(default_factory=tuple)
    scope: Scope = Field(default_factory=lambda: "own")
    group: GroupPath | None = Field(default_factory=lambda: None)
    deployment: DeploymentName | None = Field(default_factory=lambda: None)
    description: Description = Field(default_factory=str)


class SubscriptionShown(pydantic.BaseModel):
    """A subscription. From *effective_at* on nothing is missed; *waiting* and *dead* count deliveries.

    *claims_expire_at*: until then events of deployments that are not your own come; any request here renews it.
    """

    id: str
    url: str
    types: tuple[str, ...]
    scope: Scope
    group: str | None
    deployment: str | None
    description: str
    state: SubscriptionState
    reason: str
    waiting: int
    dead: int
    created_at: AwareDatetime | None
    effective_at: AwareDatetime | None
    secret_changed_at: AwareDatetime | None
    claims_expire_at: AwareDatetime | None


class SubscriptionMade(SubscriptionShown):
    """*secret* is shown this once."""

    secret: str


class SubscriptionList(pydantic.BaseModel):
    content: list[SubscriptionShown]


class SecretShown(pydantic.BaseModel):
    """*secret* is shown this once. Until *previous_until* deliveries are signed with the earlier ones too."""

    secret: str
    created_at: AwareDatetime
    previous_until: AwareDatetime | None


class DeliveryList(pydantic.BaseModel):
    """Newest first: all that wait, and the last of those that arrived, died, or were withheld."""

    content: list[Delivery]


class DeliveriesQuery(pydantic.BaseModel):
    """*state* may be given several times."""

    state: list[DeliveryState] = Field(default_factory=list)
    limit: Annotated[int, Field(ge=1, le=1000)] = 100

    def of(self, deliveries: list[Delivery]) -> DeliveryList:
        found = [delivery for delivery in deliveries if not self.state or delivery.state in self.state]
        return DeliveryList(content=found[: self.limit])


def shown(one: Subscription) -> SubscriptionShown:
    """Return *one* as its owner sees it."""
    is_wide = one.terms.scope == "readable" and one.claims is not None
    return SubscriptionShown(
        id=one.id, **one.terms.model_dump(), state=one.state, reason=one.reason, waiting=len(one.queue.waiting), dead=len(one.queue.dead),
        created_at=one.created_at, effective_at=one.effective_at, secret_changed_at=one.secret_changed_at,
        claims_expire_at=one.claims.expire_at if is_wide and one.claims is not None else None,
    )  # fmt: skip
