"""What users write on their deployments: a name, tags, a lock, and the groups that may see them."""

from typing import Annotated, Literal

import pydantic

from indaco_common.errors import IndacoError
from indaco_common.messages import Value

from .conflicts import WrongState

MAX_TAGS = 50
MAX_SHARES = 20
_LINE = r"^[^\x00-\x1f\x7f\u2028\u2029]*$"  # one line of text: nothing that would break a table or a log

Name = Annotated[str, pydantic.StringConstraints(max_length=200, pattern=_LINE, strip_whitespace=True)]
TagKey = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,62}$")]
TagValue = Annotated[str, pydantic.StringConstraints(max_length=256, pattern=_LINE)]
Tags = Annotated[dict[TagKey, TagValue], pydantic.Field(max_length=MAX_TAGS)]
LockReason = Annotated[str, pydantic.StringConstraints(min_length=1, max_length=300, pattern=_LINE)]
Share = Literal["read", "change"]


class Locked(IndacoError):
    """It is kept from changes until somebody unlocks it; waiting does not help, so that it is no conflict."""

    status, code, title = 423, "locked", "The deployment is locked"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The deployment is locked: {reason}. Unlock it first", extra={"lock_reason": reason})


class Change(Value):
    """A new name, and tags to be set (or removed: None); what is None is left as it is."""

    name: str | None = None
    tags: dict[str, str | None] = pydantic.Field(default_factory=dict)
    is_cleared: bool = False  # of all tags, before those are set

    def of(self, tags: dict[str, str]) -> dict[str, str]:
        """Return *tags* as changed. Raises: WrongState, if there would be too many."""
        merged: dict[str, str | None] = {**({} if self.is_cleared else tags), **self.tags}
        left = {key: value for key, value in merged.items() if value is not None}
        if len(left) > MAX_TAGS:
            raise WrongState(f"There would be {len(left)} tags; at most {MAX_TAGS} are kept")
        return left


def lines(texts: list[str]) -> str:
    """Return *texts* as one that a store can look in: the line ``text`` is there if it contains ``line(text)``."""
    return "\n" + "\n".join(texts) + "\n" if texts else ""


def line(text: str) -> str:
    return f"\n{text}\n"


def tag_line(key: str, value: str | None = None) -> str:
    """Return what is in the lines of a deployment that has the tag *key*, with that *value* or any."""
    return f"\n{key}=" if value is None else line(f"{key}={value}")
