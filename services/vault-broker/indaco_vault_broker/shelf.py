"""The place in the vault that the credentials of one attempt share: the newest lies there, whoever comes late."""

import asyncio
import weakref

from indaco_common.secrets.port import Secrets

from .issuers.port import IssuedCredential
from .model.lease import Lease, secret_of, serial_of


class Shelf:
    """Leases of one attempt are aggregates of their own, so what they do to their common path is put in a row here.

    Replicas are not: a revoke of one serial there may take the next one's secret away. It heals: what is missing counts as
    rejected, and the orchestrator asks for another serial.
    """

    def __init__(self, vault: Secrets) -> None:
        self._vault = vault
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def put(self, lease: Lease, credential: IssuedCredential) -> None:
        """Lay the credential down, unless a newer serial's lies there."""
        async with self._lock(lease.handle):
            lying = serial_of(await self._vault.get(lease.handle))
            if lying is None or lying <= lease.serial:
                await self._vault.put(lease.handle, secret_of(dict(credential.secret), lease.serial))

    async def remove(self, lease: Lease) -> None:
        """Take away what this serial, or an older one, has left."""
        async with self._lock(lease.handle):
            lying = serial_of(await self._vault.get(lease.handle))
            if lying is not None and lying <= lease.serial:
                await self._vault.delete(lease.handle)

    def _lock(self, path: str) -> asyncio.Lock:
        lock = self._locks.get(path)
        if lock is None:
            lock = self._locks[path] = asyncio.Lock()
        return lock
