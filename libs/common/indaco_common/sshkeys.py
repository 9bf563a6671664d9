"""SSH public keys as users paste them: read strictly, since the line goes into machines' ``authorized_keys``."""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from indaco_common.errors import Invalid

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16_384
MAX_COMMENT = 128
MAX_LINE = 16_384

TYPES: Final = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|^PuTTY-User-Key-File")
_OTHER_FORMAT = re.compile(r"^(?:-----BEGIN |---- BEGIN )")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key: its canonical *line* (type, base64, comment), and the *fingerprint* that ``ssh-keygen -l`` shows."""

    line: str
    type: str
    fingerprint: str


def parse_public_key(text: str) -> PublicKey:
    """Return the key of one ``authorized_keys`` line without options: type, base64 and perhaps a comment.

    Taken are Ed25519, RSA of 2048 bits or more, ECDSA, and the two kinds on security keys.
    Raises: Invalid, which says what to do; it never shows what may be a private key.
    """
    line = _one_line(text)
    kind, _, rest = line.partition(" ")
    encoded, _, comment = rest.strip(" ").partition(" ")
    comment = comment.strip(" ")
    if kind not in TYPES:
        raise Invalid(_about_type(kind, line))
    if len(comment) > MAX_COMMENT:
        raise Invalid(f"The comment behind the key has {len(comment)} characters; {MAX_COMMENT} are allowed")
    blob = _decode(encoded)
    _check(kind, encoded)
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return PublicKey(" ".join(filter(None, (kind, encoded, comment))), kind, f"SHA256:{digest}")


def _one_line(text: str) -> str:
    """Return the one line of *text*. Raises Invalid."""
    if _PRIVATE.search(text):
        raise Invalid(
            "This is a private key, which must never leave your machine: replace it, and send the public half (*.pub)"
        )
    line = text.strip(" \t\r\n").replace("\t", " ")
    if not line:
        raise Invalid("The public key is empty; paste the one line of a *.pub file")
    if len(line) > MAX_LINE:
        raise Invalid(f"The public key has {len(line)} characters; {MAX_LINE} are allowed")
    if _OTHER_FORMAT.match(line):
        raise Invalid("This is not the OpenSSH format; convert the key by 'ssh-keygen -i -f FILE'")
    if len(line.splitlines()) > 1:
        raise Invalid("The public key has several lines; send one key, on one line")
    if not line.isprintable():
        raise Invalid("The public key holds control characters; paste the one line of a *.pub file")
    return line


def _about_type(kind: str, line: str) -> str:
    taken = "Ed25519, RSA or ECDSA"
    if kind in ("ssh-dss", "ssh-rsa1"):
        return f"DSA keys are no longer accepted by SSH servers; make an {taken} key by 'ssh-keygen -t ed25519'"
    if "-cert-v0" in kind:
        return "This is a certificate; send the public key itself (*.pub)"
    if any(f" {known} " in f" {line} " for known in TYPES):
        return "Options before the key are not allowed; begin with the key's type"
    return f"The line does not begin with the type of a public key ({taken}); paste the one line of a *.pub file"


def _decode(encoded: str) -> bytes:
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    if not blob or base64.b64encode(blob).decode() != encoded:
        raise Invalid("The key's base64 text is damaged; copy the whole line of the *.pub file")
    return blob


def _check(kind: str, encoded: str) -> None:
    """Return if the bytes are a key of *kind*. Raises Invalid."""
    try:
        key = load_ssh_public_key(f"{kind} {encoded}".encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Invalid(f"The text is no {kind} key; copy the whole line of the *.pub file") from None
    if not isinstance(key, RSAPublicKey):
        return
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise Invalid(
            f"The RSA key has {key.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted, Ed25519 is better"
        )
