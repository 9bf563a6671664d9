"""Whom the gateway believes, and in what: from its settings, or from a file that is read again when it has changed."""

import asyncio
import sys
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import pydantic
import structlog
import yaml

from indaco_common.auth import Client, FetchFailed, TrustedIssuer, TrustTable
from indaco_common.auth.authenticator import secret_from_file
from indaco_common.errors import FieldError, Forbidden, Invalid
from indaco_common.secrets.port import Secrets
from indaco_gateway.settings import GatewaySettings

from .policy import Policy, RoleRule

MAX_BYTES = 1024 * 1024
SHOWN = 5  # faults that the sentence tells; the error's fields have all

_log = structlog.get_logger(__name__)


class Trust(pydantic.BaseModel):
    """What the issuers file holds; together it holds together."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    issuers: tuple[TrustedIssuer, ...] = ()
    roles: tuple[RoleRule, ...] = ()

    @pydantic.model_validator(mode="after")
    def _holds(self) -> "Trust":
        Policy(self.roles, TrustTable(self.issuers))
        return self

    def policy(self) -> Policy:
        return Policy(self.roles, TrustTable(self.issuers))


def of_settings(settings: GatewaySettings) -> Trust:
    """Return what the settings say by themselves, or with their file. Raises: Invalid."""
    if settings.issuers_file is not None:
        return _with_shorthand(settings, **_read(settings.issuers_file))
    return _with_shorthand(settings, issuers=settings.issuers)


def _with_shorthand(settings: GatewaySettings, **given: Any) -> Trust:
    """Return the trust with the rules of the settings added; ``admin_groups`` are operators of the first issuer."""
    where = f"issuers file {settings.issuers_file}" if settings.issuers_file else "settings of the gateway"
    trust = _checked(where, given)
    first = trust.issuers[0].issuer if trust.issuers else None
    short = [{"role": "operator", "issuer": first, "group": each} for each in settings.admin_groups] if first else []
    return _checked(where, {"issuers": trust.issuers, "roles": (*trust.roles, *settings.roles, *short)})


def _checked(where: str, given: dict[str, Any]) -> Trust:
    try:
        return Trust.model_validate(given)
    except pydantic.ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        faults = [FieldError("".join(f"/{part}" for part in each["loc"]), each["msg"]) for each in found]
    told = "; ".join(f"{each.pointer or '/'}: {each.detail}" for each in faults[:SHOWN])
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    raise Invalid(f"{where}: {told}{more}", errors=faults)


class _Loader(yaml.SafeLoader):
    """YAML in which nothing is said twice: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        found = super().construct_mapping(node, deep=deep)
        if len(found) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "something is said twice", node.start_mark)
        return found


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
        document = _parsed(body)
    except OSError as error:
        raise Invalid(f"issuers file {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Invalid(f"issuers file {path}: {' '.join(str(error).split())[:300]}") from None
    if not document.get("issuers"):
        raise Invalid(f"issuers file {path}: it names no issuers; to trust nobody, set enabled: false on each")
    return document


def _parsed(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
    document = yaml.load(body.decode(), _Loader)  # noqa: S506 - a SafeLoader
    if not isinstance(document, dict) or not all(isinstance(name, str) for name in document):
        raise ValueError("a mapping with issuers and roles is expected")
    return document


def marks(settings: GatewaySettings) -> Hashable:
    """Return what changes when the file does; None where there is none, or it cannot be seen."""
    if settings.issuers_file is None:
        return None
    try:
        found = settings.issuers_file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


async def changed(settings: GatewaySettings, known: Hashable) -> tuple[Hashable, Trust | None]:
    """Look once; return the file's marks, and what it says if it has changed and is sound. A bad file leaves all as it is."""
    now = await asyncio.to_thread(marks, settings)
    if now is None or now == known:
        return known, None
    try:
        return now, await asyncio.to_thread(of_settings, settings)
    except Invalid as error:
        _log.error("auth.issuers_file_refused", reason=error.detail)
        return now, None


class ClientSecrets:
    """Where the secrets of our clients at the issuers are: in files, or in the vault."""

    def __init__(self, secrets: Secrets | None) -> None:
        self._secrets = secrets

    async def __call__(self, client: Client) -> str:
        """Raises: FetchFailed, Unavailable."""
        if client.client_secret_vault is None or self._secrets is None:
            return await secret_from_file(client)
        try:
            kept = await self._secrets.get(client.client_secret_vault)
        except (Forbidden, Invalid) as error:
            raise FetchFailed(f"the client's secret cannot be read: {error.code}") from None
        secret = (kept or {}).get("client_secret")
        if not isinstance(secret, str) or not secret:
            raise FetchFailed(f"there is no client_secret at {client.client_secret_vault} of the vault")
        return secret


def main(arguments: list[str]) -> int:
    """``python -m indaco_gateway.trust FILE``: say what an issuers file means, or what is wrong with it."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m indaco_gateway.trust FILE\n")
        return 2
    try:
        found = of_settings(GatewaySettings(issuers_file=Path(arguments[0]), issuers=(), roles=(), admin_groups=()))
    except Invalid as error:
        sys.stderr.write(error.detail + "\n")
        return 1
    sys.stdout.writelines(f"{line}\n" for line in told(found))
    return 0


def told(found: Trust) -> Iterator[str]:
    """Yield what is believed of whom, a line each."""
    for each in found.issuers:
        state = "trusted" if each.enabled else "not trusted: enabled is false"
        where = "" if each.group_source == "token" else f", else from {each.group_source}"
        yield f"{each.issuer}: {state}; {each.profile}; groups from {', '.join(each.group_claims)}{where}"
        yield f"  for {', '.join(each.audiences) or 'any audience'}; may assert {', '.join(each.allowed_groups) or 'any group'}"
    for rule in found.roles:
        reach = f" of {', '.join(rule.groups)}" if rule.groups else " everywhere" if rule.everywhere else ""
        yield f"{rule.group} of {rule.issuer}: {rule.role}{reach}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
