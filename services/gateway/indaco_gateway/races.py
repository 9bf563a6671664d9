"""Changes that users ask for meet the view's own saves, in this process and in others: who loses the race looks again."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from indaco_common.errors import Conflict

from .model.conflicts import WrongState

T = TypeVar("T")
TRIES = 5


async def rerun(work: Callable[[], Awaitable[T]]) -> T:
    """Run *work*, again at once after each lost race. Raises: Conflict, if it lost every time; WrongState."""
    for _ in range(TRIES):
        try:
            return await work()
        except WrongState:
            raise
        except Conflict:
            continue
    raise Conflict(
        "The request couldn't be fulfilled because of a concurrent update. Please retry later", retry_after_s=1
    )
