"""Render the first boot of a machine for the software that needs no configuration service.

The script is text made of data: every value goes through shell quoting, none is ever part of the program. It runs as
root on the distributions that use apt or dnf, and can be run again without harm.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Final

from indaco_tosca.model import Node, Software, Volume
from indaco_tosca.scalars import source_text
from indaco_tosca.tree import as_list, as_map

DOCKER_RUN: Final = "tosca.nodes.indigo.dockerRun"
DOCKER_COMPOSE: Final = "tosca.nodes.indigo.DockerCompose"
INLINE_COMPOSE: Final = "tosca.nodes.indaco.DockerCompose"
_COMPONENT: Final = frozenset({"component_version", "admin_credential", "environment_variables"})
_COMPOSE: Final = frozenset({"project_name", "docker_compose_file_url"})
_UNDERSTOOD: Final = {
    DOCKER_RUN: _COMPONENT
    | {"role_name", "docker_appname", "docker_image", "docker_tag", "docker_ports", "docker_command", "docker_volume"},
    DOCKER_COMPOSE: _COMPONENT | _COMPOSE,
    INLINE_COMPOSE: _COMPONENT | _COMPOSE | {"compose_file", "secret_variables"},
}

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_IMAGE = re.compile(r"[a-z0-9][a-zA-Z0-9._:/@-]{0,255}")
_PUBLISHED = re.compile(r"[0-9a-fA-F.:\[\]-]{1,60}(/(tcp|udp|sctp))?")
_URL = re.compile(r"https?://[^\s'\"\\]{1,2000}")
_DATA: Final = "/data"
_ENGINE: Final = """\
#!/bin/sh
set -eu
export DEBIAN_FRONTEND=noninteractive
install_engine() {
  if command -v apt-get >/dev/null 2>&1; then
    apt-get update -q
    apt-get install -qy docker.io curl ca-certificates
    apt-get install -qy docker-compose-v2 || apt-get install -qy docker-compose-plugin || apt-get install -qy docker-compose
  elif command -v dnf >/dev/null 2>&1; then
    dnf install -qy dnf-plugins-core curl
    dnf config-manager --add-repo https://download.docker.com/linux/centos/docker-ce.repo
    dnf install -qy docker-ce docker-ce-cli containerd.io docker-compose-plugin
  else
    echo 'neither apt nor dnf is here: the container engine cannot be installed' >&2
    return 1
  fi
}
command -v docker >/dev/null 2>&1 || install_engine
if command -v systemctl >/dev/null 2>&1; then systemctl enable --now docker || true; fi
tries=0
until docker info >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ "$tries" -ge 30 ]; then echo 'the container engine does not start' >&2; exit 1; fi
  sleep 2
done
fetch() {
  if command -v curl >/dev/null 2>&1; then curl -fsSL --retry 5 --max-time 120 -o "$2" "$1"; else wget -q -O "$2" "$1"; fi
}
compose() { if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi; }
"""


class RecipeError(ValueError):
    """A property with which the software cannot be installed; ``name`` is the property."""

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message)


def understands(node: Node) -> bool:
    """Return whether there is a recipe for a node.

    Public type libraries define one name differently; a property that the recipe does not know says that it is not the
    component that the recipe installs.
    """
    return node.type in _UNDERSTOOD and node.properties.keys() <= _UNDERSTOOD[node.type]


def render(software: Software, volumes: tuple[Volume, ...]) -> str:
    """Return the part of the script that installs one native component. Raises: RecipeError."""
    if software.type == DOCKER_RUN:
        return _docker_run(software.properties, volumes)
    return _docker_compose(software.properties)


def script(parts: list[str]) -> str:
    """Return a whole script, or nothing for no parts."""
    return _ENGINE + "".join(parts) if parts else ""


def _docker_run(properties: Mapping[str, object], volumes: tuple[Volume, ...]) -> str:
    name = _checked(properties, "docker_appname", _NAME, "a container name has letters, digits, dots and dashes")
    image = _checked(properties, "docker_image", _IMAGE, "this is not the name of an image")
    tag = source_text(properties.get("docker_tag"))
    has_tag = ":" in image.rsplit("/", 1)[-1]
    command = ["docker", "run", "--detach", "--restart", "unless-stopped", "--name", name]
    for port in as_list(properties.get("docker_ports")):
        if not _PUBLISHED.fullmatch(source_text(port)):
            raise RecipeError("docker_ports", f"{source_text(port)[:60]!r} is not a published port, as in 8080:80")
        command += ["--publish", source_text(port)]
    for key, value in environment(properties).items():
        command += ["--env", f"{key}={value}"]
    volume = source_text(properties.get("docker_volume"))
    if volume:
        source = next((item.mount for item in volumes if item.mount and item.mount != "/var/lib/docker"), _DATA)
        command += ["--volume", f"{source}:{volume}"]
    command.append(image if has_tag or not tag else f"{image}:{tag}")
    command += _words(source_text(properties.get("docker_command")))
    quoted = shlex.quote(name)
    return f"docker rm --force {quoted} >/dev/null 2>&1 || true\n{shlex.join(command)}\n"


def _docker_compose(properties: Mapping[str, object]) -> str:
    project = _checked(properties, "project_name", _NAME, "a project name has letters, digits, dots and dashes")
    folder = f"/opt/{project}"
    content = source_text(properties.get("compose_file"))
    url = source_text(properties.get("docker_compose_file_url"))
    lines = [f"mkdir -p {folder}", f"chmod 0700 {folder}"]
    if content:
        lines.append(_write(f"{folder}/docker-compose.yaml", content))
    elif url:
        _checked(properties, "docker_compose_file_url", _URL, "this is not an http or https URL")
        lines.append(shlex.join(["fetch", url, f"{folder}/docker-compose.yaml"]))
    else:
        return ""
    variables = "".join(f"{key}={_dotenv(value)}\n" for key, value in environment(properties).items())
    lines.append(_write(f"{folder}/.env", variables))
    project_name = shlex.quote(re.sub(r"[^a-z0-9_-]", "-", project.lower()))
    lines.append(f"cd {folder}")
    lines.append(f"compose --project-name {project_name} up --detach")
    return "\n".join(lines) + "\n"


def environment(properties: Mapping[str, object]) -> dict[str, str]:
    """Return environment variables from a list of maps, each NAME: value or {key: NAME, value: value}, or from a map.

    Raises: RecipeError.
    """
    raw = properties.get("environment_variables")
    found: dict[str, str] = {}
    for item in [*([raw] if isinstance(raw, dict) else as_list(raw)), properties.get("secret_variables")]:
        pairs = as_map(item)
        if pairs.keys() == {"key", "value"}:
            pairs = {source_text(pairs["key"]): pairs["value"]}
        for key, value in pairs.items():
            if not _VARIABLE.fullmatch(key):
                raise RecipeError("environment_variables", f"{key[:60]!r} is not the name of a variable")
            text = source_text(value)
            if "\0" in text or "\n" in text:
                raise RecipeError("environment_variables", f"the variable {key!r} must be a single line")
            found[key] = text
    return found


def _checked(properties: Mapping[str, object], name: str, pattern: re.Pattern[str], message: str) -> str:
    value = source_text(properties.get(name))
    if not pattern.fullmatch(value):
        raise RecipeError(name, message)
    return value


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        raise RecipeError("docker_command", "the quotes of the command do not match") from None


def _write(path: str, content: str) -> str:
    return f"( umask 077; printf '%s' {shlex.quote(content)} > {path} )"


def _dotenv(value: str) -> str:
    """Return a value as the .env file of compose has it, with nothing in it interpolated."""
    if re.fullmatch(r"[A-Za-z0-9_./:@,+=-]*", value):
        return value
    if "'" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'
