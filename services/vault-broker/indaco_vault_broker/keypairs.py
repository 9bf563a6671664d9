"""New SSH key pairs."""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


@dataclass(frozen=True, slots=True)
class KeyPair:
    """*private_key* in OpenSSH's format, without passphrase: the vault is what protects it."""

    public_key: str
    private_key: str = field(repr=False)


def new_pair(comment: str) -> KeyPair:
    """Return a new Ed25519 pair whose public half carries *comment*."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return KeyPair(f"{public} {comment}", private)
