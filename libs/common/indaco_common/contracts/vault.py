"""What is said to and by the vault broker: handles, fingerprints and public halves, never secrets."""

from typing import Annotated

import pydantic
from pydantic import AwareDatetime

from indaco_common.ids import DeploymentId
from indaco_common.messages import Command, Event

from .values import Attempt, Failure, Owner, Place

Serial = Annotated[int, pydantic.Field(ge=0)]
KeyName = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class CredentialIssue(Command, type="vault.credential.issue.v1"):
    """Put a credential for *place* into the vault for this attempt; *serial* counts the credentials of one attempt."""

    deployment_id: DeploymentId
    attempt: Attempt
    serial: Serial
    place: Place
    owner: Owner


class CredentialRevoke(Command, type="vault.credential.revoke.v1"):
    """Revoke it, or see to it that it is never issued; final."""

    deployment_id: DeploymentId
    attempt: Attempt
    serial: Serial


class _Credential(Event):
    deployment_id: DeploymentId
    attempt: Attempt
    serial: Serial


class CredentialIssued(_Credential, type="vault.credential.issued.v1"):
    """*handle* is the vault path at which the orchestrator finds it."""

    handle: str
    expires_at: AwareDatetime | None = None


class CredentialRefused(_Credential, type="vault.credential.refused.v1"):
    reason: Failure


class CredentialRevoked(_Credential, type="vault.credential.revoked.v1"):
    pass


# ── SSH keys


class _KeyCommand(Command):
    user_id: str
    name: KeyName
    owner: Owner


class KeyCreate(_KeyCommand, type="vault.key.create.v1", subject="user"):
    """Make an Ed25519 pair; its private half stays in the vault."""


class KeyRegister(_KeyCommand, type="vault.key.register.v1", subject="user"):
    """Take a public key that its owner has made."""

    public_key: Annotated[str, pydantic.StringConstraints(max_length=16_384)]


class KeyDelete(_KeyCommand, type="vault.key.delete.v1", subject="user"):
    pass


class KeyCreated(Event, type="vault.key.created.v1", subject="user"):
    """*generated*: the vault holds the private half."""

    user_id: str
    name: KeyName
    public_key: str
    fingerprint: str
    generated: bool


class KeyDeleted(Event, type="vault.key.deleted.v1", subject="user"):
    user_id: str
    name: KeyName
