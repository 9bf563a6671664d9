"""A vault of one's own for one machine: OpenBao as a child process, set up at the first start, unsealed at each.

The root token is revoked after the set-up; the policies of a later version come in by the AppRole ``setup``, kept with
the services' own. If Indaco is killed, the child runs on, and the next start takes it over. What lies where:
:mod:`indaco_common.secrets.directory`. Measured with OpenBao 2.7.2 on two cores: first start 1.5 to 2.5 s (of which the
raft election takes 1 to 2 s), later starts 0.3 s, in memory 0.5 s, stop 0.3 to 1 s.
"""

import asyncio
import os
import socket
import time
from dataclasses import asdict
from pathlib import Path

import structlog

from indaco_common.errors import Forbidden, Unavailable
from indaco_common.secrets.child import Child, ProcessId, openbao_binary
from indaco_common.secrets.directory import APPROLES, INIT, PLACE, VaultDirectory
from indaco_common.secrets.login import AppRoleAuth
from indaco_common.secrets.roles import SERVICES, SETUP, AppRole, digest
from indaco_common.secrets.transport import FORBIDDEN, NO_CONTENT, OK, Transport, encode, refusal
from indaco_common.secrets.vault import VaultSecrets

_log = structlog.get_logger(__name__)

_START_TIMEOUT_S = 60.0
_REQUEST_TIMEOUT_S = 30.0  # the initialisation waits for a raft election
_PROBE_TIMEOUT_S = 2.0
_POLL_S = 0.02
_PORT_TRIES = 3


class EmbeddedVault:
    """OpenBao under *directory*, on the loopback at *port* (0: a free one, chosen at the first start and kept if it is
    still free).

    *ephemeral* keeps everything in memory: it starts faster and is empty each time; the caller removes the directory.
    """

    def __init__(self, directory: Path, *, port: int = 0, ephemeral: bool = False) -> None:
        self._directory = VaultDirectory(directory)
        self._wanted_port = port
        self._is_ephemeral = ephemeral
        self._claim: int | None = None
        self._child: Child | None = None
        self._address: str | None = None
        self._roles: dict[str, AppRole] = {}

    @property
    def address(self) -> str:
        """The URL of the running vault. Raises Unavailable, before :meth:`start` and after :meth:`stop`."""
        if self._address is None:
            raise Unavailable("the embedded vault is not running")
        return self._address

    async def start(self) -> str:
        """Start, or take over, the child; return its URL once it answers requests.

        Raises: Unavailable, if OpenBao is not installed, ends or is not ready in time; Conflict, if another process
        uses the directory.
        """
        if self._address is not None:
            return self._address
        begin = time.monotonic()
        self._claim = self._directory.claim()
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                address = await self._run_child()
                await self._open(address)
        except TimeoutError:
            await self.stop()
            raise Unavailable(f"the embedded vault is not ready in time; see {self._directory.server_log}") from None
        except BaseException:
            await self.stop()
            raise
        self._address = address
        _log.info("vault.started", address=address, duration_s=round(time.monotonic() - begin, 2))
        return address

    async def stop(self) -> None:
        """End the child and wait for it; a second call does nothing. Raises Unavailable, if it does not end."""
        child, self._child = self._child, None
        claim, self._claim = self._claim, None
        self._address, self._roles = None, {}
        try:
            if child is not None:
                await child.end()
                _log.info("vault.stopped")
        finally:
            if claim is not None:
                os.close(claim)

    def secrets_for(self, service: str) -> VaultSecrets:
        """Return the secrets of *service*, not started. Raises Forbidden, if it has none; Unavailable, if not running."""
        address = self.address
        if service not in SERVICES:
            raise Forbidden(f"the service {service!r} has no secrets")
        return VaultSecrets(address, _login(self._roles[service]))

    async def _run_child(self) -> str:
        """Take over the child that runs, or start one; return its address."""
        place = self._directory.read(PLACE) or {}
        if address := await self._taken_over(place):
            return address
        if self._is_ephemeral:
            self._directory.forget()
        self._directory.make_ready()
        binary = openbao_binary()
        port = self._wanted_port or int(place.get("port", 0))
        for _ in range(_PORT_TRIES):
            address = await self._launched(binary, port)
            if address is not None:
                return address
            port = self._wanted_port
        raise Unavailable("OpenBao finds no free port")

    async def _taken_over(self, place: dict[str, object]) -> str | None:
        """Return the address of the child of an earlier process, if it is fit for use; end it, if it is not."""
        if "pid" not in place:
            return None
        child = Child(ProcessId(int(str(place["pid"])), str(place["started"])))
        if not child.is_running():
            return None
        address = f"http://127.0.0.1:{place['port']}"
        # One that was initialised by a process that was killed before it had written down the keys cannot be used by anybody.
        is_wanted = not self._is_ephemeral and self._wanted_port in (0, place["port"]) and self._directory.has_keys()
        if is_wanted and await _is_ready(address):
            self._child = child
            _log.info("vault.taken_over", address=address, pid=child.identity.pid)
            return address
        await child.end()
        return None

    async def _launched(self, binary: str, port: int) -> str | None:
        """Start a child at *port* (0: any); return its address, or None if the port was taken."""
        port, cluster_port = _free_ports(port, is_fixed=port == self._wanted_port)
        self._directory.write_config(port=port, cluster_port=cluster_port, in_memory=self._is_ephemeral)
        command = [binary, "server", f"-config={self._directory.config}"]
        self._child = Child.launch(command, self._directory.server_log)
        self._directory.write(PLACE, {**asdict(self._child.identity), "port": port})
        address = f"http://127.0.0.1:{port}"
        if await self._listens(address):
            return address
        if _is_free(port) and _is_free(cluster_port):
            raise Unavailable(f"OpenBao ended; see {self._directory.server_log}")
        return None

    async def _listens(self, address: str) -> bool:
        """Wait until the child answers, whatever it says; return False, if it ends."""
        transport = Transport(address, timeout_s=_PROBE_TIMEOUT_S)
        transport.open()
        try:
            while self._child is not None and self._child.is_running():
                try:
                    await transport.send("GET", "sys/seal-status")
                except Unavailable:
                    await asyncio.sleep(_POLL_S)
                else:
                    return self._child.is_running()
            return False
        finally:
            await transport.close()

    async def _open(self, address: str) -> None:
        """Initialise and set up a new vault; bring an old one up to date; know the services' roles."""
        transport = Transport(address, timeout_s=_REQUEST_TIMEOUT_S)
        transport.open()
        try:
            state = await transport.send("GET", "sys/init")
            if not state.body.get("initialized", True):
                await self._initialise(transport)
            await self._until_ready(transport)
            known = self._directory.read(APPROLES)
            if known is None:
                await self._set_up(address, self._root_token())
            else:
                self._roles = {service: AppRole(**role) for service, role in known["roles"].items()}
                if known["policies"] != digest():
                    await self._bring_up_to_date(address, transport)
            await self._revoke_root(transport)
        finally:
            await transport.close()

    async def _initialise(self, transport: Transport) -> None:
        _log.info("vault.initialisation_started", directory=str(self._directory.root))
        body = encode({"recovery_shares": 1, "recovery_threshold": 1})
        answer = await transport.send("PUT", "sys/init", body=body)
        if answer.status != OK:
            raise refusal(answer, "initialise itself")
        self._directory.write(
            INIT, {"root_token": answer.body["root_token"], "recovery_keys": answer.body["recovery_keys_base64"]}
        )

    async def _until_ready(self, transport: Transport) -> None:
        while (await transport.send("GET", "sys/health")).status != OK:
            if self._child is None or not self._child.is_running():
                raise Unavailable(f"OpenBao ended; see {self._directory.server_log}")
            await asyncio.sleep(_POLL_S)

    def _root_token(self) -> str:
        token = (self._directory.read(INIT) or {}).get("root_token")
        if token is None:
            raise Unavailable(f"{self._directory.root / APPROLES} is missing; restore it from a copy of the directory")
        return str(token)

    async def _set_up(self, address: str, token: str) -> None:
        """Write the policies of this version; services keep the roles they have, the others get one."""
        from indaco_common.secrets.setup import apply, setup  # noqa: PLC0415 - hvac takes 0.2 s; later starts need none

        if self._roles:
            await apply(address, token, services=tuple(self._roles))
        without = [service for service in (*SERVICES, SETUP) if service not in self._roles]
        if without:
            self._roles |= await setup(address, token, services=without)
        roles = {service: asdict(role) for service, role in self._roles.items()}
        self._directory.write(APPROLES, {"policies": digest(), "roles": roles})

    async def _bring_up_to_date(self, address: str, transport: Transport) -> None:
        """Do the set-up of this version with the role that was kept for that."""
        answer = await _login(self._roles[SETUP]).log_in(transport)
        if answer.status != OK:
            raise refusal(answer, "log in for the set-up")
        token = str(answer.body["auth"]["client_token"])
        await self._set_up(address, token)
        await transport.send("POST", "auth/token/revoke-self", token=token)

    async def _revoke_root(self, transport: Transport) -> None:
        """Revoke the root token and forget it; a start that was cut short leaves this to the next one."""
        init = self._directory.read(INIT) or {}
        token = init.pop("root_token", None)
        if token is None:
            return
        answer = await transport.send("POST", "auth/token/revoke-self", token=str(token))
        if answer.status not in (NO_CONTENT, FORBIDDEN):  # 403: it was revoked before
            raise refusal(answer, "revoke the root token")
        self._directory.write(INIT, init)


def _login(role: AppRole) -> AppRoleAuth:
    return AppRoleAuth(role.role_id, role.secret_id)


async def _is_ready(address: str) -> bool:
    transport = Transport(address, timeout_s=_PROBE_TIMEOUT_S)
    transport.open()
    try:
        return (await transport.send("GET", "sys/health")).status == OK
    except Unavailable:
        return False
    finally:
        await transport.close()


def _free_ports(port: int, *, is_fixed: bool) -> tuple[int, int]:
    """Return *port*, or another free one if it is 0 or (unless it is fixed) taken, and a second free port.

    Raises: Unavailable, if a fixed port is taken.
    """
    if port and not _is_free(port):
        if is_fixed:
            raise Unavailable(f"the port {port} of the embedded vault is taken")
        port = 0
    with socket.socket() as first, socket.socket() as second:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind(("127.0.0.1", port))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def _is_free(port: int) -> bool:
    """Whether OpenBao could listen at *port*: it, too, takes a port whose old connections linger."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
