"""What becomes of a message whose handler failed: a pure decision, from the error's class and the attempts so far."""

import traceback
from datetime import timedelta

from indaco_common.errors import IndacoError, NotFound, NotYet, Unavailable

from .port import DELAYS_S, Dead, Later

MAX_ATTEMPTS = 8  # of what may pass by itself but need not; the tiers stretch them over about 50 minutes
MAX_WAIT = timedelta(hours=24)  # how long a message waits for a dependency, or for what it speaks of
_MAX_ERROR = 300  # characters


def after_failure(error: Exception, *, attempt: int, age: timedelta) -> Later | Dead:
    """Return when to deliver again, or that it is of no use.

    *attempt* counts earlier deliveries that were put off, *age* is that of the message. A message handler may raise NotFound for
    what has not arrived yet, since no order is promised; so it waits as NotYet does. An old message that is retried or replayed
    has its MAX_ATTEMPTS too, whatever its age.
    """
    told = describe(error)
    waits = isinstance(error, Unavailable | NotYet | NotFound)
    if not may_pass(error):
        return Dead(told)
    if attempt >= MAX_ATTEMPTS and not (waits and age < MAX_WAIT):
        return Dead(told)
    return Later(_tier(attempt, getattr(error, "retry_after_s", None)), attempt + 1, told)


def may_pass(error: Exception) -> bool:
    """Whether the same message may succeed later without anybody's doing."""
    return isinstance(error, TimeoutError | NotFound) or (isinstance(error, IndacoError) and error.retryable)


def describe(error: Exception) -> str:
    """Return ``code: detail`` in one line, at most 300 characters.

    Of an error that is not ours only the class and the place are told: its text may hold anything, a secret included.
    """
    if isinstance(error, IndacoError):
        text = f"{error.code}: {error.detail}"
    elif isinstance(error, TimeoutError):
        text = "timeout: the handler took too long"
    else:
        text = f"internal-error: {type(error).__name__}{_place(error)}"
    return " ".join(text.split())[:_MAX_ERROR]


def _tier(attempt: int, retry_after_s: float | None) -> int:
    tier = min(attempt, len(DELAYS_S) - 1)
    while retry_after_s is not None and tier < len(DELAYS_S) - 1 and DELAYS_S[tier] < retry_after_s:
        tier += 1
    return tier


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    module = frames[-1].filename.replace("\\", "/").rsplit("/", 1)[-1]
    return f" in {module}:{frames[-1].lineno}"
