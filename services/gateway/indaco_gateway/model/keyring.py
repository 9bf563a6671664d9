"""The public halves of a user's SSH keys, as the vault broker tells of them."""

from typing import ClassVar

import pydantic
from pydantic import AwareDatetime

from indaco_common.contracts import vault
from indaco_common.contracts.values import Owner
from indaco_common.errors import NotFound
from indaco_common.messages import Value
from indaco_common.store import Aggregate

from .conflicts import WrongState

MAX_KEYS = 50
MAX_REMEMBERED = 500  # names whose newest news is remembered, deleted ones included


class PublicKey(Value):
    """*public_key* is empty until the broker has made or taken it."""

    name: str
    public_key: str = ""
    fingerprint: str = ""
    generated: bool = False
    created_at: AwareDatetime | None = None


class KeyRing(Aggregate):
    """One user's keys."""

    KIND: ClassVar[str] = "keyring"

    keys: dict[str, PublicKey] = pydantic.Field(default_factory=dict)
    seen: dict[str, str] = pydantic.Field(default_factory=dict)  # name → sequence of the newest that was heard of it

    def create(self, name: str, owner: Owner, public_key: str | None) -> None:
        """Ask the broker for a pair, or to take *public_key*. Raises: WrongState, if the name is used."""
        if name in self.keys:
            raise WrongState(f"There is a key {name} already; delete it first, or take another name")
        if len(self.keys) >= MAX_KEYS:
            raise WrongState(f"There are {MAX_KEYS} keys; delete one first")
        self.keys[name] = PublicKey(name=name)
        if public_key is None:
            self.emit(vault.KeyCreate(user_id=self.id, name=name, owner=owner))
        else:
            self.emit(vault.KeyRegister(user_id=self.id, name=name, owner=owner, public_key=public_key))

    def delete(self, name: str, owner: Owner) -> None:
        """Raises: NotFound."""
        if self.keys.pop(name, None) is None:
            raise NotFound(f"There is no key {name}")
        self.emit(vault.KeyDelete(user_id=self.id, name=name, owner=owner))

    def created(self, event: vault.KeyCreated, sequence: str, at: AwareDatetime) -> None:
        """Show it, unless its deletion was asked for meanwhile, or something newer was heard of its name."""
        if sequence <= self.seen.get(event.name, ""):
            return
        self.seen.pop(event.name, None)
        self.seen[event.name] = sequence
        while len(self.seen) > MAX_REMEMBERED:
            del self.seen[next(iter(self.seen))]
        if event.name in self.keys:
            self.keys[event.name] = PublicKey(
                name=event.name, public_key=event.public_key, fingerprint=event.fingerprint, generated=event.generated,
                created_at=at,
            )  # fmt: skip

    def ready(self) -> tuple[str, ...]:
        """Return the public keys that can be put on machines."""
        return tuple(key.public_key for _, key in sorted(self.keys.items()) if key.public_key)
