"""The Python client of Indaco and the `indaco` command line."""

from .client import Client
from .errors import Conflict, DeploymentFailed, IndacoClientError, NotFound, NotSignedIn, Refused, TimedOut, Unreachable

__all__ = [
    "Client", "Conflict", "DeploymentFailed", "IndacoClientError", "NotFound", "NotSignedIn", "Refused", "TimedOut", "Unreachable",
]  # fmt: skip
