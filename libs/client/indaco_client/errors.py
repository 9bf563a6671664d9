"""What the server, or the way to it, said no to; each class has the exit code that the command line ends with."""

from collections.abc import Mapping
from typing import Any, ClassVar


class IndacoClientError(Exception):
    """Root of the client's errors; *what* went wrong, and *hint* what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, hint: str = "", request_id: str = "") -> None:
        super().__init__(what)
        self.what, self.hint, self.request_id = what, hint, request_id


class NotSignedIn(IndacoClientError):
    exit_code = 3


class NotFound(IndacoClientError):
    exit_code = 4


class Conflict(IndacoClientError):
    exit_code = 5


class Refused(IndacoClientError):
    """Not allowed, or not valid: another request is needed."""

    exit_code = 6


class TimedOut(IndacoClientError):
    """The wait ended, the deployment goes on."""

    exit_code = 7


class DeploymentFailed(IndacoClientError):
    exit_code = 8


class Unreachable(IndacoClientError):
    exit_code = 9


_BY_STATUS: dict[int, type[IndacoClientError]] = {
    401: NotSignedIn, 403: Refused, 404: NotFound, 409: Conflict, 412: Conflict, 429: Unreachable, 502: Unreachable, 503: Unreachable,
}  # fmt: skip


def error_of(status: int, body: Mapping[str, Any]) -> IndacoClientError:
    """Return the error that an answer of the server tells, in INDIGO's shape or as a problem document (RFC 9457)."""
    kind = _BY_STATUS.get(status, Refused if status < 500 else Unreachable)  # noqa: PLR2004
    what = str(body.get("message") or body.get("detail") or body.get("title") or f"the server answered {status}")
    fields = [f"{field.get('pointer')}: {field.get('detail')}" for field in body.get("errors", ())]
    hint = "sign in again: indaco login" if kind is NotSignedIn else "; ".join(fields[1:4])
    return kind(what, hint=hint, request_id=str(body.get("requestId") or body.get("request_id") or ""))
