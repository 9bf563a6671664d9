"""CloudEvents 1.0 envelopes: the same bytes in outbox, journal, queue and broker.

``source`` is ``/indaco/<service>``, ``type`` the message's name behind ``indaco.``, ``subject`` ``<aggregate>/<id>``, ``sequence``
the saving aggregate's version and the message's place in that save, zero-padded so that text order is number order.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import pydantic
import pydantic_core

from .errors import Invalid
from .ids import uuid7
from .messages import REGISTRY, Message

CONTENT_TYPE = "application/cloudevents+json"
TYPE_PREFIX = "indaco."
MAX_ENVELOPE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler knows of the message (or timer, or request) it is handling.

    ``id`` goes to the aggregate's inbox; None means there is nothing to remember (a timer, a first request). ``at_version`` is set
    for timers: the version at which the aggregate was found due; an edit of a later one is :class:`AlreadyHandled`.
    """

    id: str | None = None
    correlation_id: str | None = None
    request_id: str | None = None
    traceparent: str | None = None
    auth_type: str | None = None
    auth_id: str | None = None
    sequence: str = ""
    subject: str = ""
    source: str = ""
    time: datetime | None = None
    attempt: int = 0
    at_version: int | None = None


class Envelope(pydantic.BaseModel):
    """The attributes of one published message; ``data`` is the message as JSON values."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    dataschema: str = ""
    sequence: str
    partitionkey: str
    correlationid: str
    requestid: str | None = None
    causationid: str | None = None
    traceparent: str | None = None
    authtype: str | None = None
    authid: str | None = None
    data: dict[str, Any]

    @property
    def name(self) -> str:
        """The message's name: the routing key."""
        return self.type.removeprefix(TYPE_PREFIX)

    def context(self, attempt: int = 0) -> Context:
        return Context(
            id=self.id, correlation_id=self.correlationid, request_id=self.requestid, traceparent=self.traceparent,
            auth_type=self.authtype, auth_id=self.authid, sequence=self.sequence, subject=self.subject, source=self.source, time=self.time, attempt=attempt,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sealed:
    """An envelope ready to travel: its bytes and the few attributes a bus or a store needs without opening it."""

    id: str
    name: str
    correlation_id: str
    subject: str
    body: bytes


def seal(message: Message, ctx: Context, *, source: str, version: int, index: int, now: datetime) -> Sealed:
    """Wrap *message*, emitted by a save that made *version*, as its *index*-th."""
    identifier, name, key = uuid7(), message.TYPE, message.key
    correlation = getattr(message, "deployment_id", None) or ctx.correlation_id or key
    subject = f"{message.SUBJECT}/{key}"
    body: dict[str, object] = {
        "specversion": "1.0",
        "id": identifier,
        "source": f"/indaco/{source}",
        "type": TYPE_PREFIX + name,
        "subject": subject,
        "time": now,
        "datacontenttype": "application/json",
        "dataschema": f"/contracts/{name}.json",
        "sequence": f"{version:012d}.{index:02d}",
        "partitionkey": key,
        "correlationid": correlation,
    }
    optional = (
        ("requestid", ctx.request_id), ("causationid", ctx.id), ("traceparent", ctx.traceparent),
        ("authtype", ctx.auth_type), ("authid", ctx.auth_id),
    )  # fmt: skip
    body |= {attribute: value for attribute, value in optional if value is not None}
    body["data"] = message
    return Sealed(identifier, name, correlation, subject, pydantic_core.to_json(body, exclude_none=True))


def unseal(body: bytes) -> tuple[Envelope, Message | None]:
    """Open *body*; the message is None if its type is not known here.

    Raises: Invalid, if it is no envelope of ours, too large, or its data does not fit its type.
    """
    if len(body) > MAX_ENVELOPE_BYTES:
        raise Invalid(f"envelope of {len(body)} bytes, at most {MAX_ENVELOPE_BYTES} are taken")
    try:
        envelope = Envelope.model_validate_json(body)
        kind = REGISTRY.get(envelope.name)
        return envelope, kind.model_validate(envelope.data) if kind else None
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = "/".join(str(part) for part in first["loc"])
        raise Invalid(f"envelope: {where or 'body'}: {first['msg']}") from None
