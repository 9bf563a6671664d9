"""The published language: one module per owning service, message classes only. Importing this registers them all."""

from . import accounting, gateway, orchestrator, sla, vault

__all__ = ["accounting", "gateway", "orchestrator", "sla", "vault"]
