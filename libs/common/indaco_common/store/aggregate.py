"""The unit of consistency: one message changes one aggregate in one commit."""

from datetime import datetime
from typing import Any, ClassVar, cast

import pydantic

from indaco_common.messages import Message


class Aggregate(pydantic.BaseModel):
    """State with an identity, a version, and the messages it wants to send.

    Subclasses are pure: methods take what they need (``now`` included), change fields, ``emit`` messages and raise domain errors.
    ``due_at`` is when the service's timer should look again. ``INDEX`` names fields (str, int, float, bool, datetime or None,
    dotted for nested) by which a store can list.
    """

    model_config = pydantic.ConfigDict(extra="ignore", validate_assignment=False)
    KIND: ClassVar[str]
    INDEX: ClassVar[tuple[str, ...]] = ()
    CACHED: ClassVar[bool] = (
        False  # the repository may keep the object between edits: for large, hot ones nobody holds on to
    )

    id: str
    due_at: datetime | None = None
    _version: int = pydantic.PrivateAttr(default=0)
    _emitted: list[Message] = pydantic.PrivateAttr(default_factory=list)

    @property
    def version(self) -> int:
        """How often it was saved; 0 means never."""
        return cast("int", self._own["_version"])

    @property
    def emitted(self) -> list[Message]:
        """Messages to be committed with the next save, in order."""
        return cast("list[Message]", self._own["_emitted"])

    def emit(self, message: Message) -> None:
        self.emitted.append(message)

    def is_at(self, version: int) -> None:
        """Take note of the stored version: the repository's business alone."""
        self._own["_version"] = version

    @property
    def _own(self) -> dict[str, Any]:
        """The private attributes; by pydantic's own way to them each look takes 30 times as long."""
        assert self.__pydantic_private__ is not None
        return self.__pydantic_private__

    @classmethod
    def new(cls, id: str) -> "Aggregate":
        """Return the state before anything happened (what a first message of any kind meets)."""
        return cls(id=id)
