"""Marks on handler methods, from which the topology and the dispatch tables are derived without running anything.

A handler class groups what one aggregate does; its methods take ``(message, ctx)``, or ``(aggregate_id, ctx)`` for a timer.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from .messages import Message
from .store.aggregate import Aggregate

Handler = Callable[[Any, Any], Awaitable[None]]
F = TypeVar("F", bound=Callable[..., Awaitable[None]])


def handles(*kinds: type[Message]) -> Callable[[F], F]:
    """Mark a method as the handler of messages of *kinds*."""

    def mark(method: F) -> F:
        method.__handles__ = kinds  # type: ignore[attr-defined]
        return method

    return mark


def on_due(kind: type[Aggregate]) -> Callable[[F], F]:
    """Mark a method as what to call with the id of an aggregate of *kind* whose ``due_at`` has come."""

    def mark(method: F) -> F:
        method.__on_due__ = kind  # type: ignore[attr-defined]
        return method

    return mark


def handled_types(classes: Iterable[type]) -> tuple[type[Message], ...]:
    """Return every message type that *classes* handle, by name: the bindings of their service."""
    found = {kind for cls in classes for value in vars(cls).values() for kind in getattr(value, "__handles__", ())}
    return tuple(sorted(found, key=lambda kind: kind.TYPE))


def collect(handlers: Iterable[object]) -> tuple[dict[str, list[Handler]], dict[type[Aggregate], Handler]]:
    """Return (message name → handlers, aggregate kind → timer) of handler *instances*."""
    by_type: dict[str, list[Handler]] = {}
    timers: dict[type[Aggregate], Handler] = {}
    for handler in handlers:
        for name, value in vars(type(handler)).items():
            for kind in getattr(value, "__handles__", ()):
                by_type.setdefault(kind.TYPE, []).append(getattr(handler, name))
            if (due := getattr(value, "__on_due__", None)) is not None:
                timers[due] = getattr(handler, name)
    return by_type, timers
