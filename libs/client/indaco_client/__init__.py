"""The Python client of Indaco, asynchronous and not, and the `indaco` command line."""

from typing import TYPE_CHECKING, Any

from .errors import (
    ActionFailed,
    Conflict,
    DeploymentFailed,
    IndacoClientError,
    NotFound,
    NotSignedIn,
    Refused,
    TimedOut,
    Unreachable,
)

if TYPE_CHECKING:
    from .client import Client
    from .sync_client import SyncClient

__all__ = [
    "ActionFailed", "Client", "Conflict", "DeploymentFailed", "IndacoClientError", "NotFound", "NotSignedIn", "Refused", "SyncClient", "TimedOut",
    "Unreachable",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the clients when they are asked for: HTTP takes longer to import than many commands take to run."""
    if name == "Client":
        from .client import Client  # noqa: PLC0415

        return Client
    if name == "SyncClient":
        from .sync_client import SyncClient  # noqa: PLC0415

        return SyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
