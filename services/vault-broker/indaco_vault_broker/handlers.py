"""Messages and deadlines in; one lease or key changed each. What touches a site or the vault may be repeated after any crash."""

from dataclasses import replace

import structlog

from indaco_common.clock import Clock
from indaco_common.contracts import orchestrator, vault
from indaco_common.contracts.values import Failure, Place
from indaco_common.envelope import Context
from indaco_common.errors import AlreadyHandled, Conflict, IndacoError, Invalid, NotFound, Unavailable
from indaco_common.handling import handles, on_due
from indaco_common.secrets.port import Secrets
from indaco_common.sshkeys import PublicKey, parse_public_key
from indaco_common.store import Repository

from .issuers import Issuers
from .issuers.port import IssuedCredential
from .keypairs import new_pair
from .model.key import Key, key_id
from .model.lease import Lease, State, lease_id
from .shelf import Shelf

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Leasing:
    """Credentials for attempts.

    Issue: save ``issuing`` → site → vault → save and answer. Revoke: vault → site → save and answer. A crash between any two
    steps leaves a state from which the same message, or the revoke, does all of it again; both run under the lease's lock.
    """

    def __init__(
        self, leases: Repository[Lease], issuers: Issuers, secrets: Secrets, clock: Clock, *, ttl_s: float
    ) -> None:
        """*ttl_s*: life of a credential at a site."""
        self._leases, self._issuers, self._shelf, self._clock = leases, issuers, Shelf(secrets), clock
        self._ttl_s = ttl_s

    @handles(vault.CredentialIssue)
    async def issue(self, command: vault.CredentialIssue, ctx: Context) -> None:
        id = lease_id(command.deployment_id, command.attempt, command.serial)
        await self._begin(id, command.place, ctx)
        try:
            async with self._leases.edit(id, ctx) as lease:
                if lease.state is State.ISSUING:
                    await self._make(lease, command.place)
                lease.answer()
        except AlreadyHandled:
            raise
        except Conflict:
            await self._clear_if_over(id)
            raise
        log.info("lease.answered", lease=id, state=lease.state.value, provider=command.place.provider)

    @handles(vault.CredentialRevoke)
    async def revoke(self, command: vault.CredentialRevoke, ctx: Context) -> None:
        id = lease_id(command.deployment_id, command.attempt, command.serial)
        async with self._leases.upsert(id, ctx) as lease:
            if lease.state is not State.NEW and not lease.is_over:
                await self._shelf.remove(lease)
                await self._take_back(lease)
            lease.revoked()
        log.info("lease.ended", lease=id, state=lease.state.value)

    @on_due(Lease)
    async def renew(self, id: str, ctx: Context) -> None:
        """Replace a credential in good time; one whose time is over is gone for good."""
        now = self._clock.now()
        async with self._leases.edit(id, ctx) as lease:
            name = None
            if lease.is_expired(now):
                await self._shelf.remove(lease)
                lease.expired()
                log.warning("lease.expired", lease=id)
            else:
                name = lease.begin_renewal(now)
        if name is None or lease.place is None:
            return
        async with self._leases.edit(id, replace(ctx, at_version=lease.version)) as lease:
            await self._replace(lease, lease.place, name)

    async def _begin(self, id: str, place: Place, ctx: Context) -> None:
        """Save that the site is about to be asked: from here on a revoke knows the place."""
        try:
            lease = await self._leases.get(id)
        except NotFound:
            async with self._leases.upsert(id, replace(ctx, id=None)) as lease:
                lease.begin(place)

    async def _make(self, lease: Lease, place: Place) -> None:
        answer = await self._ask(lease.id, place)
        if isinstance(answer, Failure):
            lease.refused(answer)
            return
        await self._shelf.put(lease, answer)
        lease.issued(answer.expires_at, self._clock.now())

    async def _replace(self, lease: Lease, place: Place | None, name: str) -> None:
        assert place is not None
        answer = await self._ask(name, place)
        if isinstance(answer, Failure):
            lease.renewal_refused()
            log.warning("lease.renewal_refused", lease=lease.id, reason=answer.code)
            return
        await self._shelf.put(lease, answer)
        lease.renewed(name, answer.expires_at, self._clock.now())
        log.info("lease.renewed", lease=lease.id, renewals=lease.renewals)

    async def _ask(self, name: str, place: Place) -> IssuedCredential | Failure:
        """Return the site's credential, or why there will be none. Raises: Unavailable, and what else may pass by itself."""
        try:
            return await self._issuers.issuer_for(place).issue(place, name, self._ttl_s)
        except IndacoError as error:
            if error.retryable:
                raise
            return Failure(code=error.code, detail=error.detail)

    async def _take_back(self, lease: Lease) -> None:
        """Revoke at the site what may still be good there. Raises: Unavailable, so that it is tried until it is done."""
        if lease.place is None:
            return
        issuer = self._issuers.issuer_for(lease.place)
        for name in lease.alive(self._clock.now()):
            try:
                await issuer.revoke(lease.place, name)
            except IndacoError as error:
                if error.retryable:
                    raise
                raise Unavailable(
                    f"{lease.place.provider} does not take the credential back: {error.detail}"
                ) from error

    async def _clear_if_over(self, id: str) -> None:
        """After a lost race: if the winner was a revoke, what this try has laid down since must go too."""
        lease = await self._leases.get(id)
        if lease.is_over:
            await self._shelf.remove(lease)


class Sweeping:
    """Removes the secrets of deployments that have ended; it keeps no state, since removing again changes nothing.

    After a failure something may be left to clean at a site, with the lease's credential (or, for a new one, the user's session):
    each lease removes its own. Outputs there are if what ran was lost, or if an attempt wrote them and was then given up.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    @handles(orchestrator.DeploymentFailed)
    async def sweep_some(self, event: orchestrator.DeploymentFailed, ctx: Context) -> None:  # noqa: ARG002 - a handler's
        for kind in ("inputs", "outputs"):
            await self._remove(f"{kind}/{event.deployment_id}")
        log.info("secrets.swept", deployment_id=event.deployment_id, because="failed")

    @handles(orchestrator.DeploymentDeleted)
    async def sweep_all(self, event: orchestrator.DeploymentDeleted, ctx: Context) -> None:  # noqa: ARG002
        for kind in ("inputs", "outputs", "sessions"):
            await self._remove(f"{kind}/{event.deployment_id}")
        for attempt in await self._leases_of(event.deployment_id):
            await self._remove(f"leases/{event.deployment_id}/{attempt}")
        log.info("secrets.swept", deployment_id=event.deployment_id, because="deleted")

    async def _leases_of(self, deployment: str) -> list[str]:
        try:
            return await self._secrets.list(f"leases/{deployment}")
        except IndacoError as error:
            raise _later(error) from error

    async def _remove(self, path: str) -> None:
        try:
            await self._secrets.delete(path)
        except IndacoError as error:
            raise _later(error) from error


class KeyKeeping:
    """SSH keys of users: a name stands for one key until it is deleted, whatever is asked again."""

    def __init__(self, keys: Repository[Key], secrets: Secrets) -> None:
        self._keys, self._secrets = keys, secrets

    @handles(vault.KeyCreate)
    async def create(self, command: vault.KeyCreate, ctx: Context) -> None:
        async with self._keys.upsert(key_id(command.user_id, command.name), ctx) as key:
            if not key.is_active:
                key.take(parse_public_key(await self._pair(key)), generated=True)
            key.answer()
        log.info("key.created", user_id=key.user_id, name=key.name, fingerprint=key.fingerprint)

    @handles(vault.KeyRegister)
    async def register(self, command: vault.KeyRegister, ctx: Context) -> None:
        """Take a public key; the gateway has refused a wrong one already, with the same parser."""
        async with self._keys.upsert(key_id(command.user_id, command.name), ctx) as key:
            try:
                public = parse_public_key(command.public_key)
            except Invalid as error:
                self._refuse(key, error)
            else:
                await self._take(key, public)

    @handles(vault.KeyDelete)
    async def delete(self, command: vault.KeyDelete, ctx: Context) -> None:
        async with self._keys.upsert(key_id(command.user_id, command.name), ctx) as key:
            await self._secrets.delete(key.path)
            key.delete()
        log.info("key.deleted", user_id=key.user_id, name=key.name)

    async def _pair(self, key: Key) -> str:
        """Return the public half of the pair in the vault, made if there is none; read back, so that of two tries one pair wins."""
        kept = await self._secrets.get(key.path)
        if kept is None:
            pair = new_pair(key.name)
            await self._secrets.put(key.path, {"private_key": pair.private_key, "public_key": pair.public_key})
            kept = await self._secrets.get(key.path)
        if kept is None:
            raise Unavailable("the new key pair is not in the vault")
        return str(kept["public_key"])

    async def _take(self, key: Key, public: PublicKey) -> None:
        """Give the name this key, unless it has one; a pair that an interrupted creation left is not its private half."""
        if not key.is_active:
            await self._secrets.delete(key.path)
            key.take(public, generated=False)
            log.info("key.registered", user_id=key.user_id, name=key.name, fingerprint=key.fingerprint)
        key.answer()

    def _refuse(self, key: Key, error: Invalid) -> None:
        if not key.is_active:
            key.refuse(error.detail)
        log.warning("key.refused", user_id=key.user_id, name=key.name, reason=error.detail)


def _later(error: IndacoError) -> IndacoError:
    """A sweep is tried until it is done, also where an operator must mend the vault's policy first."""
    return error if error.retryable else Unavailable(f"secrets cannot be removed: {error.detail}")
