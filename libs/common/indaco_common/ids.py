"""Identifiers: UUIDv7 for what is new, UUIDv5 for what must come out the same when asked again."""

import os
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from typing import NewType

DeploymentId = NewType("DeploymentId", str)
ReservationId = NewType("ReservationId", str)

NAMESPACE = uuid.UUID("6f3a0d5e-5c1b-5a38-9d0e-1b6f6a4f2c11")  # of Indaco's own UUIDv5 names
_MAX_COUNTER = 0xFFF  # 12 bits, RFC 9562 §6.2 method 1
_DRAWS = 256  # random numbers for one system call: it would cost more than the rest of an id
_lock = threading.Lock()
_last_ms = 0
_counter = 0
_random: Iterator[int] = iter(())


def _forget_random() -> None:
    """Two processes must not draw the same numbers."""
    global _random  # noqa: PLW0603 - see uuid7
    _random = iter(())


os.register_at_fork(after_in_child=_forget_random)


def _draw() -> int:
    """Return 64 random bits; the caller holds the lock."""
    global _random  # noqa: PLW0603 - see uuid7
    drawn = next(_random, None)
    if drawn is None:
        _random = iter(struct.unpack(f"{_DRAWS}Q", os.urandom(8 * _DRAWS)))
        drawn = next(_random)
    return drawn


def uuid7() -> str:
    """Return a UUIDv7 (RFC 9562 §5.7); ids made by one process sort in the order they were made."""
    global _last_ms, _counter  # noqa: PLW0603 - one monotonic sequence per process
    with _lock:
        now = time.time_ns() // 1_000_000
        if now > _last_ms:
            _last_ms, _counter = now, _draw() & 0x7FF
        else:
            _counter += 1
            if _counter > _MAX_COUNTER:
                _last_ms, _counter = _last_ms + 1, 0
        stamp, sequence, random = _last_ms, _counter, _draw()
    text = f"{stamp << 80 | 0x7 << 76 | sequence << 64 | 0b10 << 62 | random >> 2:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"  # uuid.UUID takes three times as long


def deployment_id(issuer: str, subject: str, idempotency_key: str | None) -> DeploymentId:
    """Return a new id, or the same one each time for the same owner and idempotency key."""
    if idempotency_key is None:
        return DeploymentId(uuid7())
    return DeploymentId(str(uuid.uuid5(NAMESPACE, f"deployment\n{issuer}\n{subject}\n{idempotency_key}")))


def reservation_id(deployment: str, attempt: int, slot: str) -> ReservationId:
    """Return the id of the reservation for *slot* of an attempt: asked again, it is the same."""
    return ReservationId(str(uuid.uuid5(NAMESPACE, f"reservation\n{deployment}\n{attempt}\n{slot}")))


def user_id(issuer: str, subject: str) -> str:
    """Return an opaque id of a user, safe in Vault paths and logs."""
    return str(uuid.uuid5(NAMESPACE, f"user\n{issuer}\n{subject}"))
