"""What a route promises: said once, beside its handler; documents and tests are made from it."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

Handler = TypeVar("Handler", bound=Callable[..., Any])
Content = type[BaseModel] | str | None
"""What an answer holds: JSON of a model, text of a media type (or of one of several: "text/plain, application/json"), or nothing."""

EVENT_STREAM = "text/event-stream"
_ATTRIBUTE = "__described__"


@dataclass(frozen=True, slots=True)
class Description:
    """One operation of the API. *answers*: status → content; *errors*: statuses that are told as problems.

    *query* and *body* are the models that the handler reads. *headers*: request headers that it heeds → what they do; *sends*: those
    of its answers. *limit* is the class of requests that it counts as, where limits are kept ("": by its method). *public*: nobody
    need sign in.
    """

    summary: str
    tag: str
    details: str = ""
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    body_type: str = "application/json"
    body_required: bool = True
    answers: Mapping[int, Content] = field(default_factory=dict)
    errors: Collection[int] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    sends: Collection[str] = ()
    limit: str = ""
    public: bool = False

    @property
    def streams(self) -> bool:
        """Whether it answers with events for as long as somebody listens."""
        return EVENT_STREAM in self.answers.values()


def describe(
    summary: str,
    *,
    tag: str,
    answers: Mapping[int, Content],
    query: type[BaseModel] | None = None,
    body: type[BaseModel] | None = None,
    body_type: str = "application/json",
    body_required: bool = True,
    errors: Collection[int] = (),
    headers: Mapping[str, str] | None = None,
    sends: Collection[str] = (),
    limit: str = "",
    public: bool = False,
) -> Callable[[Handler], Handler]:
    """Describe the operation that the decorated handler serves; its docstring becomes the details (see :class:`Description`)."""

    def note(handler: Handler) -> Handler:
        description = Description(
            summary, tag, details=" ".join((handler.__doc__ or "").split()), query=query, body=body, body_type=body_type,
            body_required=body_required, answers=dict(answers), errors=tuple(errors), headers=dict(headers or {}), sends=tuple(sends),
            limit=limit or ("events" if EVENT_STREAM in answers.values() else ""), public=public,
        )  # fmt: skip
        setattr(handler, _ATTRIBUTE, description)
        return handler

    return note


def description_of(handler: object) -> Description | None:
    """Return what *handler*, a function or a bound method, was described as."""
    found = getattr(handler, _ATTRIBUTE, None)
    return found if isinstance(found, Description) else None


def limit_of(method: str, described: Description | None) -> str:
    """Return the class of requests that an operation counts as: its own, "events" for streams, "read" or "write"."""
    if described is not None and described.limit:
        return described.limit
    return "read" if method in ("GET", "HEAD") else "write"
