"""One SSH key of a user, under the user's name for it."""

from enum import StrEnum
from typing import ClassVar, Self

from indaco_common.contracts import vault
from indaco_common.sshkeys import PublicKey
from indaco_common.store import Aggregate


class KeyState(StrEnum):
    NEW = "new"
    ACTIVE = "active"
    REFUSED = "refused"
    DELETED = "deleted"


def key_id(user_id: str, name: str) -> str:
    return f"{user_id}/{name}"


class Key(Aggregate):
    """The public half; the private one, where we made it, lies in the vault at :attr:`path`."""

    KIND: ClassVar[str] = "key"
    INDEX: ClassVar[tuple[str, ...]] = ("user_id", "state")

    user_id: str
    name: str
    state: KeyState = KeyState.NEW
    public_key: str = ""
    fingerprint: str = ""
    generated: bool = False
    reason: str = ""

    @classmethod
    def new(cls, id: str) -> Self:
        user_id, name = id.rsplit("/", 1)
        return cls(id=id, user_id=user_id, name=name)

    @property
    def path(self) -> str:
        return f"users/{self.user_id}/keys/{self.name}"

    @property
    def is_active(self) -> bool:
        return self.state is KeyState.ACTIVE

    def take(self, key: PublicKey, *, generated: bool) -> None:
        self.state, self.reason = KeyState.ACTIVE, ""
        self.public_key, self.fingerprint, self.generated = key.line, key.fingerprint, generated

    def refuse(self, reason: str) -> None:
        self.state, self.reason = KeyState.REFUSED, reason

    def answer(self) -> None:
        """Say which key this name stands for; asking for it again gives the one there is."""
        self.emit(
            vault.KeyCreated(
                user_id=self.user_id, name=self.name, public_key=self.public_key, fingerprint=self.fingerprint,
                generated=self.generated,
            )
        )  # fmt: skip

    def delete(self) -> None:
        self.state, self.public_key, self.fingerprint, self.generated = KeyState.DELETED, "", "", False
        self.emit(vault.KeyDeleted(user_id=self.user_id, name=self.name))
