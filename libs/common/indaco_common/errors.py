"""The error tree. A class says what the core does about it; ``code`` is stable, kebab-case and for programs.

IndacoError
├─ Invalid 400             bad input; with field errors as JSON pointers
├─ Unauthenticated 401
├─ Forbidden 403
│  ├─ QuotaExceeded
│  └─ PolicyRefused
├─ NotFound 404
├─ Conflict 409            lost a race or a state forbids it
│  └─ AlreadyHandled       this message (or timer) has been dealt with: acknowledge, do nothing
├─ PreconditionFailed 412
├─ PayloadTooLarge 413
├─ Unsupported 501
├─ TooManyRequests 429
├─ NotYet 503              came before what it speaks of: deliver again later
├─ Unavailable 503         a dependency does not answer: the same call later
└─ ProviderError 502
   ├─ NoCapacity           another place
   ├─ CredentialRejected   issue the credential again
   └─ SpecRejected         no place will take it: give up

HTTP answers are made of this tree in :mod:`indaco_common.web.problems`; retries of messages in :mod:`indaco_common.bus.consumer`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: *pointer* is an RFC 6901 JSON pointer into the request body ('' is the body itself)."""

    pointer: str
    detail: str


class IndacoError(Exception):
    """Root of all errors that Indaco raises on purpose; *detail* is one sentence for a person, without secrets."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        retry_after_s: float | None = None,
        extra: Mapping[str, str | int | float | None] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = tuple(errors)
        self.retry_after_s = retry_after_s
        self.extra = dict(extra or {})


class Invalid(IndacoError):
    status, code, title = 400, "invalid", "The request is not valid"


class Unauthenticated(IndacoError):
    status, code, title = 401, "unauthenticated", "Full authentication is required to access this resource"


class Forbidden(IndacoError):
    status, code, title = 403, "forbidden", "Not allowed"


class QuotaExceeded(Forbidden):
    code, title = "quota-exceeded", "Quota exceeded"

    def __init__(self, *, resource: str, asked: int, free: int) -> None:
        super().__init__(
            f"{resource}: {asked} asked, {free} free", extra={"resource": resource, "asked": asked, "free": free}
        )


class PolicyRefused(Forbidden):
    code, title = "policy-refused", "Refused by policy"


class NotFound(IndacoError):
    status, code, title = 404, "not-found", "Not found"


class Conflict(IndacoError):
    status, code, title, retryable = 409, "conflict", "Conflict", True


class AlreadyHandled(Conflict):
    code, title, retryable = "already-handled", "Already handled", False


class PreconditionFailed(IndacoError):
    status, code, title = 412, "precondition-failed", "Precondition failed"


class PayloadTooLarge(IndacoError):
    status, code, title = 413, "payload-too-large", "Payload too large"


class TooManyRequests(IndacoError):
    status, code, title, retryable = 429, "too-many-requests", "Too many requests", True


class Unsupported(IndacoError):
    status, code, title = 501, "unsupported", "Not implemented here"


class NotYet(IndacoError):
    status, code, title, retryable = 503, "not-yet", "Not yet", True


class Unavailable(IndacoError):
    status, code, title, retryable = 503, "unavailable", "A dependency does not answer", True


class ProviderError(IndacoError):
    status, code, title = 502, "provider-error", "The provider failed"


class NoCapacity(ProviderError):
    code, title = "no-capacity", "The provider has no room"


class CredentialRejected(ProviderError):
    code, title = "credential-rejected", "The provider refused the credential"


class SpecRejected(ProviderError):
    code, title = "spec-rejected", "The provider refused the specification"
