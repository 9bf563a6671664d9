"""Inputs as people write them: YAML whose scalars stay what was typed, so that version 22.10 does not become 22.1."""

import json
import re
from typing import IO, Any

import click
import yaml


class _Loader(yaml.SafeLoader):
    """YAML's core without floats and dates: the server knows which type an input has, and reads text as that."""


_Loader.yaml_implicit_resolvers = {}
_KEPT = ("null", "bool", "int", "float", "str", "seq", "map")
_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _KEPT
}
for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|)$", "~n\0"), ("bool", r"^(?:true|false)$", "tf"), ("int", r"^(?:0|-?[1-9][0-9]*)$", "-0123456789"), ("merge", r"^<<$", "<"),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), [c.strip("\0") for c in _first])


def parse(text: str, what: str) -> Any:
    """Return the value of YAML or JSON *text*. Raises: click.UsageError, naming *what* it is."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader with fewer types
    except yaml.YAMLError as error:
        problem = str(getattr(error, "problem", None) or error)
        raise click.UsageError(f"{what}: {problem}") from None
    except RecursionError:
        raise click.UsageError(f"{what}: the value is nested too deeply") from None
    except (ValueError, LookupError):  # of a constructor: `!!int abc`, a number of thousands of digits
        raise click.UsageError(f"{what}: a number or boolean cannot be read; quote it, if it is text") from None


def parse_map(text: str, what: str) -> dict[str, Any]:
    """Return the map of input names that *text* is. Raises: click.UsageError."""
    value = parse(text, what)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise click.UsageError(f"{what}: a map of input names to values is expected")
    return value


def read_map(file: IO[str]) -> dict[str, Any]:
    """Return the map of input names that an open file holds. Raises: click.UsageError."""
    try:
        text = file.read()
    except UnicodeDecodeError:
        raise click.UsageError(f"{file.name}: the file is not text in UTF-8") from None
    return parse_map(text, file.name)


def parse_setting(setting: str, option: str = "--set") -> tuple[str, Any]:
    """Return name and value of ``NAME=VALUE``, which *option* has. Raises: click.UsageError."""
    name, equals, value = setting.partition("=")
    if not (name and equals):
        raise click.UsageError(f"{option} {setting}: write NAME=VALUE")
    return name, parse(value, f"{option} {name}")


def parse_json(setting: str, option: str = "--set-json") -> tuple[str, Any]:
    """Return name and value of ``NAME=JSON``, which *option* has. Raises: click.UsageError."""
    name, equals, value = setting.partition("=")
    if not (name and equals):
        raise click.UsageError(f"{option} {setting}: write NAME=JSON")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{option} {name}: {error}") from None
