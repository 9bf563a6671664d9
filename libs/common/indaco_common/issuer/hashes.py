"""Hashes of passwords (slow, salted) and of client secrets (long and random, so a plain digest is enough)."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets

_N, _R, _P, _LENGTH = 2**14, 8, 1, 32  # OWASP 2024 for interactive logins: 16 MiB and some 50 ms
_MAX_MEMORY = 64 * 1024 * 1024
_SCRYPT_PARTS = 6

# What an unknown name is checked against, so that it takes as long as a known one.
NOBODY = "scrypt$16384$8$1$AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def hash_password(password: str) -> str:
    """Return "scrypt$n$r$p$salt$hash" of *password*."""
    salt = secrets.token_bytes(16)
    digest = _scrypt(password, salt, _N, _R, _P)
    return f"scrypt${_N}${_R}${_P}${_base64(salt)}${_base64(digest)}"


def hash_secret(secret: str) -> str:
    """Return "sha256$hash" of a random secret of at least 32 characters (a password needs :func:`hash_password`)."""
    return f"sha256${hashlib.sha256(secret.encode()).hexdigest()}"


async def verify(secret: str, known: str) -> bool:
    """Say whether *secret* is the one that *known* is the hash of; a slow hash is computed in a thread."""
    if known.startswith("sha256$"):
        return hmac.compare_digest(hash_secret(secret), known)
    return await asyncio.to_thread(_verify_scrypt, secret, known)


def _verify_scrypt(password: str, known: str) -> bool:
    parts = known.split("$")
    if len(parts) != _SCRYPT_PARTS or parts[0] != "scrypt":
        return False
    try:
        n, r, p = (int(part) for part in parts[1:4])
        salt, digest = base64.b64decode(parts[4]), base64.b64decode(parts[5])
        return hmac.compare_digest(_scrypt(password, salt, n, r, p), digest)
    except (ValueError, binascii.Error):
        return False


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=_LENGTH)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
