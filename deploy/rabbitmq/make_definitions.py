"""Print a RabbitMQ definitions file for Indaco: virtual host, one user per service, exchanges, queues, policy.

    .venv/bin/python deploy/rabbitmq/make_definitions.py --passwords secrets/rabbitmq >definitions.json
    curl -u admin -H 'content-type: application/json' --data-binary @definitions.json http://HOST:15672/api/definitions

Run it by a Python that has Indaco: exchanges and queues are those of the code. Importing the file again changes nothing;
what is not in the file is left alone. Works with RabbitMQ 3.10 and later.

A service may write to the two exchanges (only messages whose names the topic permissions grant it) and to its own retry
exchange, and read its own queue and its dead letters. It may declare nothing. It has no access to the default exchange,
which would open every queue by its name: that is what the retry exchanges are for.

Which service hears which message is not in the file: `indaco topology apply` makes those bindings, or `--bindings` adds
them here.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from indaco_common.bus.rabbitmq_objects import exchanges, queues, retry_bindings
from indaco_common.bus.topology import COMMANDS, EVENTS, queue, retry_exchange

JsonObject = dict[str, object]
Binding = tuple[str, str, str]
"""Exchange, queue, routing key."""

DELIVERY_LIMIT: Final = 20
"""Deliveries without an answer after which a message goes to the dead queue: it kills whoever handles it."""
NOTHING: Final = "^$"


@dataclass(frozen=True)
class Service:
    """What one service may publish, as regular expressions over routing keys.

    A topic permission that is absent allows every key, so there is always one.
    """

    name: str
    events: str
    commands: str = NOTHING


SERVICES: Final = (
    Service("gateway", events=r"^gateway\..*", commands=r"^vault\.key\..*"),
    Service("sla", events=r"^sla\..*", commands=r"^sla\.quota\..*"),
    Service("orchestrator", events=r"^orchestrator\..*", commands=r"^vault\.credential\..*"),
    Service("vault-broker", events=r"^vault\..*"),
    Service("accounting", events=r"^accounting\..*"),
)


def permission(service: Service) -> dict[str, str]:
    """Return the regular expressions over the names of objects: to declare, to write to, to read from."""
    own = rf"indaco\.{service.name}"
    return {
        "configure": NOTHING,
        "write": rf"^(indaco\.(events|commands)|{own}\.retry)$",
        "read": rf"^{own}(\.dead)?$",
    }


def hashed(password: str) -> str:
    """Return RabbitMQ's rabbit_password_hashing_sha256: four bytes of salt, then SHA-256 of salt and password."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def password(service: str, folder: Path | None) -> str:
    """Return the password of the environment, else that of the folder, where it is made at the first call.

    Raises SystemExit, if there is neither.
    """
    variable = f"INDACO_RABBITMQ_PASSWORD_{service.replace('-', '_').upper()}"
    if given := os.environ.get(variable):
        return given
    if folder is None:
        raise SystemExit(f"set {variable}, or say --passwords DIR")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / service
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(secrets.token_urlsafe(24))
    return file.read_text().strip()


def read_bindings(path: Path) -> list[Binding]:
    """Return the bindings of a JSON list of [exchange, service, routing key].

    Raises SystemExit, if an exchange or a service is not one of ours.
    """
    names = {service.name for service in SERVICES}
    bindings = []
    for exchange, service, routing_key in json.loads(path.read_text()):
        if exchange not in {EVENTS, COMMANDS} or service not in names:
            raise SystemExit(f"{path}: no such exchange or service: {exchange}, {service}")
        bindings.append((exchange, queue(service), routing_key))
    return bindings


def user(service: Service, folder: Path | None) -> JsonObject:
    return {
        "name": service.name,
        "password_hash": hashed(password(service.name, folder)),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "",
        "limits": {},
    }


def topic_permissions(service: Service) -> list[dict[str, str]]:
    return [
        {"exchange": EVENTS, "write": service.events, "read": NOTHING},
        {"exchange": COMMANDS, "write": service.commands, "read": NOTHING},
    ]


def policy() -> JsonObject:
    return {
        "name": "indaco-delivery-limit",
        "pattern": r"^indaco\.[a-z-]+$",
        "apply-to": "queues",
        "priority": 1,
        "definition": {"delivery-limit": DELIVERY_LIMIT},
    }


def binding(exchange: str, target: str, routing_key: str) -> JsonObject:
    return {
        "source": exchange,
        "destination": target,
        "destination_type": "queue",
        "routing_key": routing_key,
        "arguments": {},
    }


def definitions(vhost: str, folder: Path | None, bindings: list[Binding]) -> JsonObject:
    """Return the whole file; *folder* holds the passwords, *bindings* are added to those of the retry exchanges."""
    names = tuple(service.name for service in SERVICES)
    here = {"vhost": vhost}
    lasting = {"durable": True, "auto_delete": False, **here}
    retries = [(retry_exchange(name), to, key) for name in names for key, to in retry_bindings(name).items()]
    return {
        "vhosts": [{"name": vhost}],
        "users": [user(service, folder) for service in SERVICES],
        "permissions": [{"user": service.name, **permission(service), **here} for service in SERVICES],
        "topic_permissions": [
            {"user": service.name, **grant, **here} for service in SERVICES for grant in topic_permissions(service)
        ],
        "policies": [{**policy(), **here}],
        "exchanges": [
            {"name": name, "type": kind, "internal": False, "arguments": {}, **lasting}
            for name, kind in exchanges(names).items()
        ],
        "queues": [
            {"name": name, "arguments": arguments, **lasting}
            for service in names
            for name, arguments in queues(service).items()
        ],
        "bindings": [{**binding(*each), **here} for each in [*bindings, *retries]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--vhost", default="indaco", help="virtual host (default: %(default)s)")
    parser.add_argument(
        "--passwords",
        type=Path,
        metavar="DIR",
        help="folder of one file per service, made where missing; INDACO_RABBITMQ_PASSWORD_<SERVICE> comes first",
    )
    parser.add_argument(
        "--bindings", type=Path, metavar="FILE", help="JSON list of [exchange, service, routing key] to add"
    )
    options = parser.parse_args()
    bindings = read_bindings(options.bindings) if options.bindings else []
    json.dump(definitions(options.vhost, options.passwords, bindings), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
