"""Which services have secrets, and what each may do there: one HCL policy, hence one role, per service."""

import hashlib
from dataclasses import dataclass, field
from importlib import resources
from typing import Final

from indaco_common.errors import Forbidden

SERVICES: Final = ("gateway", "orchestrator", "vault-broker")
"""The services that have secrets; the others have no policy, hence no way in."""

SETUP: Final = "setup"
"""The policy (and role) of whoever sets a vault up."""


@dataclass(frozen=True, slots=True)
class AppRole:
    """What a service logs in with."""

    role_id: str
    secret_id: str = field(repr=False)


def role_name(service: str) -> str:
    """Return the name of the policy, and of the role, of *service*."""
    return f"indaco-{service}"


def policy(service: str) -> str:
    """Return the policy of *service* as HCL. Raises Forbidden, if it has none."""
    if service not in (*SERVICES, SETUP):
        raise Forbidden(f"the service {service!r} has no secrets")
    return resources.files("indaco_common.secrets").joinpath("policies", f"{service}.hcl").read_text()


def digest() -> str:
    """Return a digest of all policies: where it is the one of the last set-up, there is nothing to bring up to date."""
    return hashlib.sha256("\n".join(policy(service) for service in (*SERVICES, SETUP)).encode()).hexdigest()
