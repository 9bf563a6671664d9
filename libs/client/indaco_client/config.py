"""Where the client's settings come from: the command line, the environment, a context of the configuration file, or a default."""

import dataclasses
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import IndacoClientError

DEFAULT_URL = "http://127.0.0.1:8080"
OUTPUTS = ("table", "json", "yaml", "csv", "name")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
MAX_BYTES = 256 * 1024
_ADDRESS = re.compile(r"https?://[^/@\s?#]+(?:/[^@\s]*)?")
MAX_VALUE = 2_000  # characters
DEFAULT_CONTEXT = "default"
KEYS = {
    "url": "the gateway",
    "group": "the group to act for",
    "output": f"how to print: {', '.join(OUTPUTS)}",
    "issuer": "the OpenID Connect issuer to sign in at",
    "client_id": "the name under which the issuer knows this program",
    "token_command": "a command that prints an access token",
    "oidc_account": "an account of oidc-agent",
}
VARIABLES = {
    "url": "INDACO_URL", "group": "INDACO_GROUP", "output": "INDACO_OUTPUT", "issuer": "INDACO_ISSUER", "client_id": "INDACO_CLIENT_ID",
    "token_command": "INDACO_TOKEN_COMMAND", "oidc_account": "INDACO_OIDC_ACCOUNT",
}  # fmt: skip
_DEFAULTS = {"url": DEFAULT_URL, "output": "table"}
_HEAD = "# Kept by `indaco context`, which writes it anew: comments are not kept. Secrets do not belong here.\n"


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and who said it."""

    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Config:
    """The contexts of the configuration file, and the name of the one that is used where nothing else is said."""

    contexts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    current: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is in force. *flags* are options of the command line, by key; an empty value is none."""

    config: Config = field(default_factory=Config)
    environment: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str | None] = field(default_factory=dict)
    session_url: str = ""  # of the gateway that the user signed in at

    @property
    def context(self) -> Setting:
        """Return the context's name. Raises: IndacoClientError, if it is not in the file."""
        if name := self.flags.get("context"):
            found = Setting(name, "--context")
        elif name := self.environment.get("INDACO_CONTEXT"):
            found = Setting(name, "INDACO_CONTEXT")
        elif self.config.current:
            found = Setting(self.config.current, str(config_file()))
        else:
            return Setting(DEFAULT_CONTEXT, "default")
        if found.value not in self.config.contexts and found.value != DEFAULT_CONTEXT:
            known = ", ".join(sorted(self.config.contexts)) or "none"
            raise IndacoClientError(
                f"there is no context {found.value} ({found.origin}); known: {known}",
                hint=f"indaco context set {found.value} url=https://…",
            )
        return found

    def get(self, key: str, flag: str | None = None) -> Setting | None:
        """Return what *key* is: a flag, else the environment, else the context, else the default; None, if nobody says."""
        option = f"--{key.replace('_', '-')}"
        if value := flag or self.flags.get(key):
            return Setting(value, option)
        if value := self.environment.get(VARIABLES[key], "").strip():
            return Setting(value, VARIABLES[key])
        context = self.context.value
        if value := self.config.contexts.get(context, {}).get(key):
            return Setting(value, f"context {context}")
        if key == "url" and self.session_url:
            return Setting(self.session_url, "indaco login")
        return Setting(_DEFAULTS[key], "default") if key in _DEFAULTS else None

    def value(self, key: str, flag: str | None = None) -> str | None:
        found = self.get(key, flag)
        return found.value if found else None


def folder() -> Path:
    """Return the user's configuration folder of this program."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "indaco"


def config_file() -> Path:
    """Return where contexts are kept: ``INDACO_CONFIG``, else in the configuration folder."""
    return Path(path) if (path := os.environ.get("INDACO_CONFIG")) else folder() / "config.toml"


def read() -> Config:
    """Return the configuration file's content; nothing, where there is none. Raises: IndacoClientError."""
    file = config_file()
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise _wrong(f"is larger than {MAX_BYTES // 1024} KiB")
        content = tomllib.loads(text.decode())
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise _wrong(error.strerror or str(error)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(str(error)) from None
    return _config(content)


def _config(content: Mapping[str, Any]) -> Config:
    known = content.get("contexts", {})
    if not isinstance(known, dict) or not all(isinstance(each, dict) for each in known.values()):
        raise _wrong("contexts are tables: [contexts.NAME]")
    if unknown := content.keys() - {"context", "contexts"}:
        raise _wrong(f"{min(unknown)} is not known; there are context and [contexts.NAME]")
    for name, members in known.items():
        for key, value in members.items():
            check(key, value, f"contexts.{name}.{key}")
    return Config(known, str(content.get("context", "")))


def check(key: str, value: object, where: str) -> str:
    """Return *value*, if a context may hold it under *key*. Raises: IndacoClientError."""
    if key not in KEYS:
        raise _wrong(f"{where} is not known; known are {', '.join(KEYS)}")
    if not isinstance(value, str) or not value.isprintable() or len(value) > MAX_VALUE:
        raise _wrong(f"{where} is one line of text, of at most {MAX_VALUE} characters")
    if key == "output" and value not in OUTPUTS:
        raise _wrong(f"{where}: {value!r} is none of {', '.join(OUTPUTS)}")
    if key in {"url", "issuer"} and not _ADDRESS.fullmatch(value):
        raise _wrong(f"{where}: {value!r} is no address: http(s)://host, without a user")
    return value


def write(config: Config) -> None:
    """Replace the configuration file at once, so that whoever reads it meanwhile finds the old or the new one."""
    parts = [_HEAD]
    if config.current:
        parts.append(f"context = {_quoted(config.current)}\n")
    for name, members in sorted(config.contexts.items()):
        lines = [f"{key} = {_quoted(value)}\n" for key, value in members.items()]
        parts.append("".join([f"\n[contexts.{_quoted(name)}]\n", *lines]))
    replace(config_file(), "".join(parts))


def replace(file: Path, text: str) -> None:
    """Write *file* (mode 0600) in one step, with its folder (mode 0700) if that is not there."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w") as out:
            out.write(text)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def settings(flags: Mapping[str, str | None] | None = None) -> Settings:
    """Return the settings in force. Raises: IndacoClientError, where the file is wrong."""
    found = Settings(read(), dict(os.environ), flags or {})
    return dataclasses.replace(found, session_url=_session_url(found.context.value))


def session_file(context: str = DEFAULT_CONTEXT) -> Path:
    """Return where a context's tokens are kept (mode 0600): ``INDACO_SESSION``, else in the configuration folder."""
    if path := os.environ.get("INDACO_SESSION"):
        return Path(path)
    return folder() / ("session.json" if context == DEFAULT_CONTEXT else f"session-{context}.json")


def _session_url(context: str) -> str:
    try:
        return str(json.loads(session_file(context).read_text())["url"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # of printable text: a basic string of TOML


def _wrong(why: str) -> IndacoClientError:
    return IndacoClientError(f"{config_file()}: {why}", hint="mend it, or set INDACO_CONFIG to another file")
