#!/usr/bin/python3
"""The command ``docker`` of a machine of the docker driver, as far as the first-boot scripts and a look around need it.

  docker info | ps | logs NAME | rm [--force] NAME... | run --detach [OPTION...] IMAGE [COMMAND...] | compose version
  docker compose [--project-name NAME] [--file FILE] up --detach | down

The containers are made beside the machine, by the mediator; they share its network: a port of a container is a port of the machine, and
the services of a compose project reach each other by name, which is an alias of the loopback, and no two can listen at one port. What is
not understood is refused; the keys of a compose file that are read, and those that make no difference here, are in the two tables below.
"""

import argparse
import graphlib
import json
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

DOOR: Final = "/run/engine/mediator.sock"
HOSTS: Final = Path("/etc/hosts")
FILES: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
READ: Final = frozenset(
    {"image", "command", "entrypoint", "environment", "env_file", "ports", "volumes", "depends_on", "restart", "user", "working_dir"}
    | {"container_name", "hostname"}
)  # fmt: skip
IGNORED: Final = frozenset(
    {"healthcheck", "networks", "labels", "expose", "init", "stdin_open", "tty", "logging", "stop_grace_period", "ulimits"}
)  # fmt: skip
MAX_FILE_BYTES: Final = 256 * 1024

_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<how>:?[-?])(?P<other>[^}]*))?\})"
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # of what is known to the others by it, in /etc/hosts
_PORT = re.compile(r"(?:0\.0\.0\.0:)?(?:(?P<port>\d{1,5}):)?(?P<target>\d{1,5})(?:/(?P<protocol>tcp|udp))?")


class Refused(Exception):
    """What was asked is not done; the text says why."""


# ── the forms of `docker run`


def container_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return what to ask the mediator for. Raises Refused."""
    if not options.detach:
        raise Refused("only containers in the background: docker run --detach")
    environment: dict[str, str] = {}
    for file in options.env_file:
        environment |= variables_of(_text_of(Path(file)))
    for variable in options.env:
        name, is_given, value = variable.partition("=")
        environment[name] = value if is_given else os.environ.get(name, "")
    return {
        "name": options.name,
        "image": options.image,
        "entrypoint": [options.entrypoint] if options.entrypoint else [],
        "command": options.command,
        "environment": environment,
        "volumes": [volume_of(text) for text in options.volume],
        "forwards": forwards_of(options.publish),
        "restart": options.restart,
        "user": options.user,
        "folder": options.workdir,
    }


def volume_of(text: str, project: str = "") -> dict[str, Any]:
    """Return a volume from SOURCE:TARGET[:MODE] or TARGET; a named one of a compose project is the project's own."""
    parts = text.split(":")
    if len(parts) > 3:  # noqa: PLR2004 - as above
        raise Refused(f"{text!r} is no volume")
    source, target = ("", parts[0]) if len(parts) == 1 else parts[:2]
    modes = parts[2].split(",") if len(parts) > 2 else []  # noqa: PLR2004 - as above
    if project and source and source[0] not in "/.~":
        source = f"{project}_{source}"
    return {"source": source, "target": target, "read_only": "ro" in modes}


def forwards_of(ports: Iterable[str]) -> list[list[int]]:
    """Return the ports of the machine that lead to another one of the container, from [PORT:]TARGET[/PROTOCOL]."""
    forwards = []
    for text in ports:
        port, target, protocol = published(text)
        if port != target and protocol != "tcp":
            raise Refused(f"{text!r}: a UDP port of a container is the same port of the machine")
        if port != target:
            forwards.append([port, target])
    return forwards


def published(text: str) -> tuple[int, int, str]:
    """Return the machine's port, the container's, and the protocol. Raises Refused."""
    found = _PORT.fullmatch(text)
    if found is None:
        raise Refused(f"{text!r} is not a port, as in 8080:80; an address or a range cannot be kept here")
    return int(found["port"] or found["target"]), int(found["target"]), found["protocol"] or "tcp"


# ── compose files


class _Loader(yaml.SafeLoader):
    """Keeps every scalar as the text that it is, but for null and merges: 22:22 is no number, yes no truth."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the library's own way
        first: [(tag, pattern) for tag, pattern in rules if tag.endswith((":null", ":merge"))]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def containers_of(text: str, project: str, variables: Mapping[str, str], folder: Path) -> list[dict[str, Any]]:
    """Return what to ask the mediator for, in the order of ``depends_on``; ``aliases`` are the names of each. Raises Refused."""
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - derived from the safe one
        document = _filled(_map(document, "the compose file"), variables)
    except (yaml.YAMLError, RecursionError) as error:
        raise Refused(f"the compose file is no YAML: {error}") from error
    services = {_named(name): _map(made, name) for name, made in _map(document.get("services"), "services").items()}
    for key in ("configs", "secrets", "include"):
        if key in document:
            raise Refused(f"{key} of a compose file are not understood here")
    for name, volume in _map(document.get("volumes"), "volumes").items():
        if volume and volume != {"driver": "local"}:
            raise Refused(f"the volume {name} has options; a volume here has none")
    waits = {name: [str(other) for other in _list(service, "depends_on", name)] for name, service in services.items()}
    if missing := {other for others in waits.values() for other in others} - services.keys():
        raise Refused(f"depends_on names services that are not there: {', '.join(sorted(missing))}")
    try:
        order = list(graphlib.TopologicalSorter(waits).static_order())
    except graphlib.CycleError as error:
        raise Refused(f"depends_on goes in a circle: {' → '.join(error.args[1])}") from error
    _check_ports(services)
    return [_service(name, services[name], project, folder) for name in order]


def _service(name: str, service: Mapping[str, Any], project: str, folder: Path) -> dict[str, Any]:
    if unknown := service.keys() - READ - IGNORED:
        raise Refused(f"{name}: not understood here: {', '.join(sorted(map(str, unknown)))}")
    if "image" not in service:
        raise Refused(f"{name}: has no image")
    environment: dict[str, str] = {}
    for file in _listed(service.get("env_file")):
        environment |= variables_of(_text_of(folder / file))
    environment |= _environment(service.get("environment"))
    ports = [_port(port) for port in _list(service, "ports", name)]
    volumes = [_volume(volume, project) for volume in _list(service, "volumes", name)]
    return {
        "name": f"{project}-{name}-1",
        "aliases": [name, *(_named(service[key]) for key in ("container_name", "hostname") if service.get(key))],
        "image": service["image"],
        "entrypoint": _words(service.get("entrypoint")),
        "command": _words(service.get("command")),
        "environment": environment,
        "volumes": volumes,
        "forwards": forwards_of(ports),
        "restart": service.get("restart") or "no",
        "user": service.get("user") or "",
        "folder": service.get("working_dir") or "",
    }


def _check_ports(services: Mapping[str, Any]) -> None:
    """Refuse two services that listen at one port: they share the machine's network."""
    owners: dict[tuple[int, str], str] = {}
    for name, service in services.items():
        for port in _list(service, "ports", name):
            _, target, protocol = published(_port(port))
            if owners.setdefault((target, protocol), name) != name:
                raise Refused(f"{owners[target, protocol]} and {name} both listen at {target}, in one network")


def _port(port: object) -> str:
    if isinstance(port, dict):
        return f"{port.get('published', port.get('target'))}:{port.get('target')}/{port.get('protocol', 'tcp')}"
    return str(port)


def _volume(volume: object, project: str) -> dict[str, Any]:
    if isinstance(volume, dict):
        ends = [end for end in (volume.get("source"), volume.get("target")) if end]
        if not all(isinstance(end, str) and ":" not in end for end in ends):
            raise Refused(f"{str(volume)[:100]} is no volume: its source and target are a text each")
        return volume_of(":".join(ends), project) | {"read_only": volume.get("read_only") == "true"}
    return volume_of(str(volume), project)


def _environment(values: object) -> dict[str, str]:
    pairs = (
        values.items()
        if isinstance(values, dict)
        else ((text.partition("=")[0], text.partition("=")[2] if "=" in text else None) for text in _listed(values))
    )
    return {str(name): os.environ.get(str(name), "") if value is None else str(value) for name, value in pairs}


def _words(value: object) -> list[str]:
    try:
        return shlex.split(value) if isinstance(value, str) else _listed(value)
    except ValueError as error:
        raise Refused(f"a command cannot be split into words: {error}") from error


def _named(name: object) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Refused(f"{str(name)[:100]!r} cannot be a name: it is letters, digits, '_', '.' and '-', at most 100")
    return name


def _list(service: Mapping[str, Any], key: str, name: str) -> list[Any]:
    value = service.get(key) or []
    if not isinstance(value, list) and not (key == "depends_on" and isinstance(value, dict)):
        raise Refused(f"{name}: {key} is no list")
    return list(value)


def _listed(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(part) for part in value] if isinstance(value, list) else []


def _map(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict | None):
        raise Refused(f"{name} is no map")
    return value or {}


def _filled(value: Any, variables: Mapping[str, str]) -> Any:
    """Return *value* with ``$NAME``, ``${NAME}``, ``${NAME:-other}`` and ``${NAME:?message}`` filled in. Raises Refused."""
    if isinstance(value, dict):
        return {key: _filled(part, variables) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, variables) for part in value]
    return _VARIABLE.sub(lambda found: _value(found, variables), value) if isinstance(value, str) else value


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    if found["dollar"]:
        return "$"
    name, how, other = found["plain"] or found["name"], found["how"] or "", found["other"] or ""
    value = variables.get(name)
    if value is None or (how.startswith(":") and not value):
        if how.endswith("?"):
            raise Refused(f"the variable {name} is not set: {other}")
        return other
    return value


def variables_of(text: str) -> dict[str, str]:
    """Return the variables of a ``.env`` file: NAME=value, 'value' as it is, "value" with backslashes before ", $ and itself."""
    found = {}
    for line in text.splitlines():
        name, is_given, value = line.strip().partition("=")
        if not is_given or name.startswith("#"):
            continue
        if len(value) > 1 and value[0] == value[-1] == "'":
            value = value[1:-1]
        elif len(value) > 1 and value[0] == value[-1] == '"':
            value = re.sub(r'\\(["\\$])', r"\1", value[1:-1])
        found[name.strip()] = value
    return found


def hosts_with(hosts: str, names: Iterable[str]) -> str:
    """Return the lines to add to a hosts file, so that each name is the machine itself."""
    known = {word for line in hosts.splitlines() for word in line.partition("#")[0].split()[1:]}
    return "".join(f"127.0.0.1\t{name}\n" for name in dict.fromkeys(names) if name not in known)


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Refused(f"{path} is larger than {MAX_FILE_BYTES} bytes")
        return path.read_text()
    except (OSError, UnicodeError) as error:
        raise Refused(f"{path} cannot be read: {type(error).__name__}") from error


# ── the mediator


def ask(do: str, **request: Any) -> Any:
    """Return the mediator's answer. Raises Refused."""
    try:
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(DOOR)
            door.sendall(json.dumps({"do": do, **request}).encode() + b"\n")
            with door.makefile() as stream:
                said = json.loads(stream.readline())
    except PermissionError as error:
        raise Refused("only root may ask for containers: sudo docker") from error
    except (OSError, ValueError) as error:
        raise Refused(f"the mediator does not answer: {type(error).__name__}") from error
    if "error" in said:
        raise Refused(said["error"])
    return said["answer"]


def up(containers: list[dict[str, Any]]) -> None:
    """Make the project's containers anew. Every name is known before the first of them starts."""
    names = [alias for container in containers for alias in container.pop("aliases")]
    with HOSTS.open("a") as hosts:  # in its place: it is the file that the containers see
        hosts.write(hosts_with(HOSTS.read_text(), names))
    for container in containers:
        ask("remove", name=container["name"])
        ask("run", **container)


def compose(options: argparse.Namespace) -> None:
    if options.action == "version":
        say("Docker Compose, as far as the mediator understands it")
        return
    if options.action == "up" and not options.detach:
        raise Refused("only in the background: docker compose up --detach")
    file = Path(options.file) if options.file else next((Path(name) for name in FILES if Path(name).exists()), None)
    if file is None:
        raise Refused(f"there is no {' or '.join(FILES)} here")
    folder = file.absolute().parent
    project = options.project_name or re.sub(r"[^a-z0-9_-]", "", folder.name.lower())
    own = folder / ".env"
    variables = (variables_of(_text_of(own)) if own.exists() else {}) | os.environ
    containers = containers_of(_text_of(file), project, variables, folder)
    if options.action == "up":
        up(containers)
        return
    for container in reversed(containers):
        ask("remove", name=container["name"])


def remove(options: argparse.Namespace) -> None:
    for name in options.names:
        if not ask("remove", name=name) and not options.force:
            raise Refused(f"there is no container {name}")


def listing() -> str:
    return "".join(f"{c['name']:30} {c['image']:40} {c['status']}\n" for c in ask("list"))


def say(text: str) -> None:
    sys.stdout.write(text.rstrip("\n") + "\n")


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser("docker", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = whole.add_subparsers(required=True)

    def command(name: str, act: Any) -> argparse.ArgumentParser:
        made = commands.add_parser(name, allow_abbrev=False)
        made.set_defaults(act=act)
        return made

    command("info", lambda _: say(f"Server Version: {ask('info')}"))
    command("ps", lambda _: say(listing())).add_argument("--all", "-a", action="store_true")
    command("logs", lambda options: say(ask("logs", name=options.name))).add_argument("name")
    removal = command("rm", remove)
    removal.add_argument("--force", "-f", action="store_true")
    removal.add_argument("names", nargs="+")
    run = command("run", lambda options: say(ask("run", **container_of(options))))
    run.add_argument("--detach", "-d", action="store_true")
    run.add_argument("--name", required=True)
    run.add_argument("--restart", default="no")
    run.add_argument("--user", "-u", default="")
    run.add_argument("--workdir", "-w", default="")
    run.add_argument("--entrypoint", default="")
    for long, short in (("--publish", "-p"), ("--env", "-e"), ("--volume", "-v")):
        run.add_argument(long, short, action="append", default=[])
    run.add_argument("--env-file", action="append", default=[])
    run.add_argument("image")
    run.add_argument("command", nargs=argparse.REMAINDER)
    project = command("compose", compose)
    project.add_argument("--project-name", "-p", default="")
    project.add_argument("--file", "-f", default="")
    project.add_argument("action", choices=("version", "up", "down"))
    project.add_argument("--detach", "-d", action="store_true")
    return whole


def main() -> int:
    options = parser().parse_args()
    try:
        options.act(options)
    except Refused as refusal:
        sys.stderr.write(f"docker: {refusal}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
