"""Builds the vault broker."""

from indaco_common.service import Infra, Service, ServiceSpec

from .handlers import KeyKeeping, Leasing, Sweeping
from .issuers import Issuers
from .model.key import Key
from .model.lease import Lease
from .settings import VaultBrokerSettings


def build(infra: Infra, settings: VaultBrokerSettings) -> Service:
    issuers = Issuers(infra.vault, infra.clock)
    handlers = (
        Leasing(infra.repository(Lease), issuers, infra.vault, infra.clock, ttl_s=settings.credential_ttl_s),
        Sweeping(infra.vault),
        KeyKeeping(infra.repository(Key), infra.vault),
    )
    return Service(infra, handlers=handlers, closing=(issuers.close,))


SERVICE = ServiceSpec(
    "vault-broker",
    VaultBrokerSettings,
    handlers=(Leasing, Sweeping, KeyKeeping),
    build=build,
    port=8083,
    needs_secrets=True,
)
