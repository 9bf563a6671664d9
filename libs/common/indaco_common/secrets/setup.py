"""Set a Vault or OpenBao up for Indaco: the KV mount, the AppRole method, one policy and one role per service.

Everything may be run again: what is there is brought up to date, and nothing is removed. The token needs what
``policies/setup.hcl`` allows. hvac blocks, so each function runs it in a thread; services never come this way.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import hvac
import hvac.exceptions
import structlog

from indaco_common.errors import Forbidden, IndacoError, Invalid, Unavailable
from indaco_common.secrets.port import MOUNT
from indaco_common.secrets.roles import SERVICES, AppRole, policy, role_name

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

_TOKEN_TTL = "1h"  # noqa: S105 - a duration
_TOKEN_MAX_TTL = "24h"  # noqa: S105
_READY_TRIES, _READY_PAUSE_S = 100, 0.1


async def apply(url: str, token: str, *, services: Sequence[str] = SERVICES, ca_file: Path | None = None) -> None:
    """Bring the mount, the policies and the roles up to date. Raises Forbidden, Unavailable, Invalid."""
    await asyncio.to_thread(_run, url, token, ca_file, lambda client: _apply(client, services, None))
    _log.info("vault_policies.applied", services=list(services))


async def setup(
    url: str,
    token: str,
    *,
    services: Sequence[str] = SERVICES,
    secret_id_ttl: str | None = None,
    ca_file: Path | None = None,
) -> dict[str, AppRole]:
    """Do what :func:`apply` does and return a new AppRole credential for each service.

    A secret id ends *secret_id_ttl* (such as "720h") after it was made; None leaves a role's own rule, at first: never.
    Earlier secret ids are not taken back.
    Raises: Forbidden, Unavailable, Invalid.
    """

    def run(client: hvac.Client) -> dict[str, AppRole]:
        _apply(client, services, secret_id_ttl)
        return {service: _issue(client, service) for service in services}

    roles = await asyncio.to_thread(_run, url, token, ca_file, run)
    _log.info("vault_roles.issued", services=list(roles))
    return roles


def _run(url: str, token: str, ca_file: Path | None, work: Callable[[hvac.Client], _T]) -> _T:
    """Call *work* with a client of its own; raise what goes wrong as our errors, without the server's words."""
    try:
        with _client(url, token, ca_file) as client:
            return work(client)
    except (hvac.exceptions.VaultError, OSError) as error:  # requests' exceptions are OSErrors
        problem = _problem(error)
    raise problem


@contextmanager
def _client(url: str, token: str, ca_file: Path | None) -> Iterator[hvac.Client]:
    client = hvac.Client(url=url, token=token, verify=str(ca_file) if ca_file else True, timeout=30)
    client.session.trust_env = False  # a proxy of the environment is no way to a vault
    try:
        yield client
    finally:
        client.session.close()


def _problem(error: Exception) -> IndacoError:
    if isinstance(error, hvac.exceptions.Forbidden | hvac.exceptions.Unauthorized):
        return Forbidden("the token may not set the vault up; it needs the policy of setup.hcl")
    if isinstance(error, hvac.exceptions.InvalidRequest | hvac.exceptions.InvalidPath):
        return Invalid("the vault refused a step of its set-up")
    return Unavailable(f"the vault cannot be set up at the moment: {type(error).__name__}")


def _apply(client: hvac.Client, services: Sequence[str], secret_id_ttl: str | None) -> None:
    _mount_secrets(client)
    if "approle/" not in _data(client.sys.list_auth_methods()):
        client.sys.enable_auth_method("approle")
    for service in services:
        client.sys.create_or_update_policy(role_name(service), policy(service))
        client.auth.approle.create_or_update_approle(
            role_name(service),
            bind_secret_id=True,
            secret_id_num_uses=0,
            secret_id_ttl=secret_id_ttl,
            token_ttl=_TOKEN_TTL,
            token_max_ttl=_TOKEN_MAX_TTL,
            token_policies=[role_name(service)],
            token_no_default_policy=True,
        )


def _mount_secrets(client: hvac.Client) -> None:
    """Mount KV version 2, one version per secret: what is replaced is gone."""
    mounted = _data(client.sys.list_mounted_secrets_engines()).get(f"{MOUNT}/")
    if mounted is None:
        client.sys.enable_secrets_engine("kv", path=MOUNT, options={"version": "2"})
    elif mounted["type"] != "kv" or (mounted.get("options") or {}).get("version") != "2":
        raise Invalid(f"the vault has something else than KV version 2 at {MOUNT}/")
    _when_ready(lambda: client.secrets.kv.v2.configure(max_versions=1, cas_required=False, mount_point=MOUNT))


def _when_ready(step: Callable[[], Any]) -> None:
    """Do *step* once a new KV mount takes requests: for a moment it answers 400 to all."""
    for _ in range(_READY_TRIES):
        try:
            step()
        except hvac.exceptions.InvalidRequest as error:
            if "pgrading from non-versioned" not in str(error):
                raise
        else:
            return
        time.sleep(_READY_PAUSE_S)  # in a thread of its own
    raise Unavailable(f"the vault's mount {MOUNT}/ does not become ready")


def _issue(client: hvac.Client, service: str) -> AppRole:
    name = role_name(service)
    role_id = _data(client.auth.approle.read_role_id(name))["role_id"]
    secret_id = _data(client.auth.approle.generate_secret_id(name))["secret_id"]
    return AppRole(str(role_id), str(secret_id))


def _data(answer: Any) -> dict[str, Any]:
    data: dict[str, Any] = answer["data"]
    return data
