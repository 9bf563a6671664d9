"""Messages: what services say to each other. Events are facts with many readers, commands have one owner.

A name is ``<service>.<aggregate>.<verb>.v<n>``. Within a version a message may only gain optional fields; what is unknown is
ignored. A breaking change is a new class with the next version, and the producer emits both until the old queues are empty.
"""

import re
from typing import ClassVar

import pydantic

NAME = re.compile(r"^[a-z]+\.[a-z]+\.[a-z-]+\.v[1-9][0-9]*$")
REGISTRY: dict[str, type["Message"]] = {}


class Value(pydantic.BaseModel):
    """A value inside messages and aggregates: compared by content, never changed."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")


class Message(Value):
    """Base of all messages; a subclass names its type and the field that holds its subject's id."""

    TYPE: ClassVar[str] = ""
    SUBJECT: ClassVar[str] = ""
    KEY: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__()  # the class arguments are for the hook below

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, type: str = "", subject: str = "deployment", key: str = "", **kwargs: object
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if not type:  # Event and Command themselves
            return
        if not NAME.match(type):
            raise TypeError(f"{cls.__name__}: {type!r} is not <service>.<aggregate>.<verb>.v<n>")
        cls.TYPE, cls.SUBJECT, cls.KEY = type, subject, key or f"{subject}_id"
        if cls.KEY not in cls.model_fields:
            raise TypeError(f"{cls.__name__}: no field {cls.KEY!r} for its subject")
        if REGISTRY.setdefault(type, cls).__qualname__ != cls.__qualname__:
            raise TypeError(f"{type} is declared twice")

    @property
    def key(self) -> str:
        """The id of what the message is about."""
        return str(getattr(self, self.KEY))


class Event(Message):
    """Something that has happened; readers subscribe, the publisher does not know them."""


class Command(Message):
    """A request to one owner; a command nobody owns is an error at the sender."""
