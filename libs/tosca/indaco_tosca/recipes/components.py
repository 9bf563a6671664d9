"""The software that a machine installs by itself: a container, a compose project, a shell program."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Final

from indaco_tosca.model import Node, Software, Volume
from indaco_tosca.recipes.shell import RecipeError, checked, environment, variables, write
from indaco_tosca.scalars import source_text
from indaco_tosca.tree import as_list, as_map

DOCKER_RUN: Final = "tosca.nodes.indigo.dockerRun"
DOCKER_COMPOSE: Final = "tosca.nodes.indigo.DockerCompose"
INLINE_COMPOSE: Final = "tosca.nodes.indaco.DockerCompose"
SCRIPT: Final = "tosca.nodes.indaco.Script"
_COMPONENT: Final = frozenset({"component_version", "admin_credential"})
_RUN: Final = frozenset({
    "role_name", "docker_appname", "docker_image", "docker_tag", "docker_ports", "docker_command", "docker_volume",
    "environment_variables",
})  # fmt: skip
_COMPOSE: Final = frozenset({"project_name", "docker_compose_file_url", "environment_variables"})
_UNDERSTOOD: Final = {
    DOCKER_RUN: _COMPONENT | _RUN,
    DOCKER_COMPOSE: _COMPONENT | _COMPOSE,
    INLINE_COMPOSE: _COMPONENT | _COMPOSE | {"compose_file", "files", "secret_variables"},
    SCRIPT: _COMPONENT | {"script", "environment", "secret_environment"},
}

_NAME: Final = r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}"
_IMAGE: Final = r"[a-z0-9][a-zA-Z0-9._:/@-]{0,255}"
_PUBLISHED: Final = r"[0-9a-fA-F.:\[\]-]{1,60}(/(tcp|udp|sctp))?"
_URL: Final = r"https?://[^\s'\"\\]{1,2000}"
_FILE: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}){0,4}"
_DATA: Final = "/data"


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
    if software.type == SCRIPT:
        return _shell_program(software.node, software.properties)
    return _docker_compose(software.properties)


def _docker_run(properties: Mapping[str, object], volumes: tuple[Volume, ...]) -> str:
    name = checked(properties, "docker_appname", _NAME, "a container name has letters, digits, dots and dashes")
    image = checked(properties, "docker_image", _IMAGE, "this is not the name of an image")
    tag = source_text(properties.get("docker_tag"))
    has_tag = ":" in image.rsplit("/", 1)[-1]
    command = ["docker", "run", "--detach", "--restart", "unless-stopped", "--name", name]
    for port in as_list(properties.get("docker_ports")):
        if not re.fullmatch(_PUBLISHED, source_text(port)):
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
    return f"engine\ndocker rm --force {shlex.quote(name)} >/dev/null 2>&1 || true\n{shlex.join(command)}\n"


def _docker_compose(properties: Mapping[str, object]) -> str:
    project = checked(properties, "project_name", _NAME, "a project name has letters, digits, dots and dashes")
    folder = f"/opt/{project}"
    content = source_text(properties.get("compose_file"))
    url = source_text(properties.get("docker_compose_file_url"))
    lines = ["engine", f"mkdir -p {folder}", f"chmod 0700 {folder}"]
    if url:
        checked(properties, "docker_compose_file_url", _URL, "this is not an http or https URL")
        lines.append(shlex.join(["fetch", url, f"{folder}/docker-compose.yaml"]))
    elif content:
        lines.append(write(f"{folder}/docker-compose.yaml", content))
    else:
        return "engine\n"
    for name, text in as_map(properties.get("files")).items():
        lines += _project_file(folder, name, source_text(text))
    dotenv = "".join(f"{key}={_dotenv(value)}\n" for key, value in environment(properties).items())
    lines.append(write(f"{folder}/.env", dotenv))
    project_name = shlex.quote(re.sub(r"[^a-z0-9_-]", "-", project.lower()))
    lines += [f"cd {folder}", f"compose --project-name {project_name} up --detach"]
    return "\n".join(lines) + "\n"


def _project_file(folder: str, name: str, text: str) -> list[str]:
    """Return the commands that write a file which containers mount, whose users are not root: hence its mode."""
    if not re.fullmatch(_FILE, name) or name == "docker-compose.yaml":
        raise RecipeError("files", f"{name[:60]!r} is not the relative name of a further file")
    path = f"{folder}/{name}"
    parent = path.rsplit("/", 1)[0]
    return [f"mkdir -p {parent}", write(path, text, "0644")]


def _shell_program(node: str, properties: Mapping[str, object]) -> str:
    """Return a part that runs the program in a shell of its own, so that nothing it sets reaches the parts after it."""
    program = source_text(properties.get("script"))
    if not program.strip() or "\0" in program:
        raise RecipeError("script", "there is no shell program")
    folder = f"/opt/indaco/{re.sub('[^A-Za-z0-9_-]', '-', node)[:64]}"
    lines = [f"mkdir -p {folder}", f"chmod 0700 {folder}", write(f"{folder}/script.sh", program), "(", f"cd {folder}"]
    for name in ("environment", "secret_environment"):
        given = variables(as_map(properties.get(name)).items(), name)
        lines += [f"export {key}={shlex.quote(value)}" for key, value in given.items()]
    return "\n".join([*lines, ". ./script.sh", ")"]) + "\n"


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        raise RecipeError("docker_command", "the quotes of the command do not match") from None


def _dotenv(value: str) -> str:
    """Return a value as the .env file of compose has it, with nothing in it interpolated.

    Compose takes a quote after a backslash for no end, within single quotes too: a value with one is put into double quotes.
    """
    if re.fullmatch(r"[A-Za-z0-9_./:@,+=-]*", value):
        return value
    if "'" not in value and "\\" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'
