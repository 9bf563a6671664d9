"""What the server, or the way to it, said no to; each class has the exit code that the command line ends with."""

from collections.abc import Mapping
from typing import Any, ClassVar

SHOWN = 10  # wrong fields


class IndacoClientError(Exception):
    """Root of the client's errors: *what* went wrong, *why*, as far as that is told, and *hint*, what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self, what: str, *, why: str = "", hint: str = "", request_id: str = "", retry_after_s: float = 0.0
    ) -> None:
        super().__init__(f"{what}: {why}" if why else what)
        self.what, self.why, self.hint = what, why, hint
        self.request_id, self.retry_after_s = request_id, retry_after_s


class NotSignedIn(IndacoClientError):
    exit_code = 3


class NotFound(IndacoClientError):
    exit_code = 4


class Conflict(IndacoClientError):
    """The state of things does not allow it: already there, changed meanwhile, or locked."""

    exit_code = 5


class Refused(IndacoClientError):
    """Not allowed, or not valid: another request is needed."""

    exit_code = 6


class TimedOut(IndacoClientError):
    """The wait ended, the deployment goes on."""

    exit_code = 7


class DeploymentFailed(IndacoClientError):
    exit_code = 8


class ActionFailed(IndacoClientError):
    """A machine is not what it was asked to be."""

    exit_code = 8


class Unreachable(IndacoClientError):
    """No answer, or one that says to come back later."""

    exit_code = 9


_BY_STATUS: dict[int, type[IndacoClientError]] = {
    401: NotSignedIn, 403: Refused, 404: NotFound, 409: Conflict, 412: Conflict, 423: Conflict, 428: Conflict, 429: Unreachable,
    501: Refused, 502: Unreachable, 503: Unreachable, 504: Unreachable,
}  # fmt: skip
_NEXT = {
    401: "sign in again: indaco login",
    412: "it was changed meanwhile: look again, then repeat",
    423: "indaco deployment unlock ID",
    429: "come back a little later",
    501: "this server cannot do it yet",
}


def error_of(status: int, body: Mapping[str, Any], retry_after: str = "") -> IndacoClientError:
    """Return the error that an answer of the server tells, in INDIGO's shape or as a problem document (RFC 9457)."""
    kind = _BY_STATUS.get(status, Refused if status < 500 else IndacoClientError)  # noqa: PLR2004
    return kind(
        _sentence(status, body), hint=str(body.get("hint") or _NEXT.get(status, "")),
        request_id=str(body.get("requestId") or body.get("request_id") or ""),
        retry_after_s=float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0,
    )  # fmt: skip


def _sentence(status: int, body: Mapping[str, Any]) -> str:
    """Return what went wrong, a line for each wrong field."""
    errors = body.get("errors")
    fields = [
        f"  {str(field.get('pointer', '')).lstrip('/') or 'body'}: {field.get('detail', '')}"
        for field in (errors if isinstance(errors, list) else ())
        if isinstance(field, dict)
    ]
    told = body.get("detail") or body.get("message") or body.get("title") or f"the server answered {status}"
    first = str(told).partition("; ")[0] if fields else str(told)  # INDIGO's message repeats the fields behind it
    more = [f"  and {len(fields) - SHOWN} more"] if len(fields) > SHOWN else []
    return "\n".join([first, *fields[:SHOWN], *more])
