"""The directory of an embedded vault: its layout, its configuration for OpenBao, and files that survive a crash whole.

``data/`` OpenBao's storage · ``keys/`` the unseal key, the recovery key, the services' AppRoles (whoever reads these
reads all secrets) · ``log/`` the server's output and the audit trail · ``vault.json`` where the child runs.
"""

import fcntl
import json
import os
import secrets
from pathlib import Path
from typing import Any

import structlog

from indaco_common.errors import Conflict, Unavailable

_log = structlog.get_logger(__name__)

PLACE = "vault.json"
INIT = "keys/init.json"
APPROLES = "keys/approles.json"
_UNSEAL_KEY = "keys/unseal.key"
_UNSEAL_KEY_BYTES = 32
_MAX_LOG_BYTES = 16 * 1024 * 1024


class VaultDirectory:
    """Files of one embedded vault; all directories are 0700 and all files 0600."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @property
    def server_log(self) -> Path:
        return self.root / "log/server.log"

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    def claim(self) -> int:
        """Make the directory and take it for this process; return the descriptor that holds it, to be closed.

        Raises: Conflict, if another process has it; Unavailable, if it cannot be made.
        """
        try:
            for folder in (self.root, *(self.root / name for name in ("data", "keys", "log"))):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Unavailable(f"the vault directory {self.root} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Conflict(f"another process uses the vault directory {self.root}") from None
        return descriptor

    def read(self, name: str) -> dict[str, Any] | None:
        """Return what :meth:`write` stored, or None if there is no such file. Raises Unavailable, if it is damaged."""
        try:
            value = json.loads((self.root / name).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Unavailable(f"{self.root / name} is damaged")
        return value

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Store *value*: after a crash there is the old file or the new one, never a part."""
        self._write_bytes(name, json.dumps(value, indent=2).encode())

    def has_keys(self) -> bool:
        """Whether there is a way into the storage: without one it holds nothing that was ever used."""
        return any((self.root / name).exists() for name in (INIT, APPROLES))

    def forget(self) -> None:
        """Drop the keys and roles of an earlier, in-memory vault."""
        for name in (INIT, APPROLES):
            (self.root / name).unlink(missing_ok=True)

    def make_ready(self) -> None:
        """See to the unseal key and to storage that nobody can open; shorten the logs.

        Storage without keys and roles comes from a first start that was cut short before anything was stored: it is
        set aside and OpenBao begins anew. Raises: Unavailable, if the unseal key of storage in use is missing.
        """
        data, key = self.root / "data", self.root / _UNSEAL_KEY
        if any(data.iterdir()) and not self.has_keys():
            aside = self.root / f"data.unopened-{secrets.token_hex(4)}"
            data.rename(aside)
            data.mkdir(mode=0o700)
            _log.warning("vault_storage.set_aside", directory=str(aside))
        if not key.exists():
            if any(data.iterdir()):
                raise Unavailable(f"the vault cannot be unsealed: {key} is missing")
            self._write_bytes(_UNSEAL_KEY, secrets.token_bytes(_UNSEAL_KEY_BYTES))
        for file in (self.server_log, self.root / "log/audit.log"):
            if file.exists() and file.stat().st_size > _MAX_LOG_BYTES:
                file.replace(file.with_suffix(".log.1"))

    def write_config(self, *, port: int, cluster_port: int, in_memory: bool) -> None:
        """Write OpenBao's configuration: loopback only, unsealing by itself, an audit trail.

        ``performance_multiplier`` 1 shortens the raft election at the first start from 8 s to 1 s; its default is meant
        for slow networks, and there is one node.
        """
        raft = {"path": str(self.root / "data"), "node_id": "embedded", "performance_multiplier": "1"}
        # OpenBao stores this and never opens a storage again whose audit device has changed: so not one word of it may
        # change, and the file is relative to its working directory, log/, since the directory may be moved.
        audit = {
            "description": "every request and answer, with secrets as HMAC",
            "options": {"file_path": "audit.log", "mode": "0600"},
        }
        config: dict[str, Any] = {
            "storage": {"inmem": {}} if in_memory else {"raft": raft},
            "seal": {"static": {"current_key_id": "embedded-1", "current_key": f"file://{self.root / _UNSEAL_KEY}"}},
            "listener": {
                "tcp": {
                    "address": f"127.0.0.1:{port}",
                    "cluster_address": f"127.0.0.1:{cluster_port}",
                    "tls_disable": True,
                }
            },
            "api_addr": f"http://127.0.0.1:{port}",
            "cluster_addr": f"https://127.0.0.1:{cluster_port}",
            "ui": False,
            "audit": [{"file": {"main": audit}}],
        }
        self.write(self.config.name, config)

    def _write_bytes(self, name: str, content: bytes) -> None:
        target = self.root / name
        fresh = target.with_name(f".{target.name}.new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
