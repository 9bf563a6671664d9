"""The shell that all first boots share, and the ways in which a value may get into it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Final

from indaco_tosca.scalars import source_text
from indaco_tosca.tree import as_list, as_map

_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]*"

FUNCTIONS: Final = """\
#!/bin/sh
set -eu
export DEBIAN_FRONTEND=noninteractive
# packages NAME...
packages() {
  if command -v apt-get >/dev/null 2>&1; then
    apt-get -o DPkg::Lock::Timeout=600 update -q
    apt-get -o DPkg::Lock::Timeout=600 install -qy "$@"
  elif command -v dnf >/dev/null 2>&1; then
    dnf install -qy "$@"
  else
    echo "neither apt nor dnf is here: $* cannot be installed" >&2
    return 1
  fi
}
# fetch URL FILE
fetch() {
  if command -v curl >/dev/null 2>&1; then curl -fsSL --retry 5 --max-time 600 -o "$2" "$1"; else wget -q -O "$2" "$1"; fi
}
# retry TIMES COMMAND...: every five seconds, until it succeeds
retry() {
  local tries="$1"
  shift
  until "$@"; do
    tries=$((tries - 1))
    if [ "$tries" -le 0 ]; then echo "gave up: $1" >&2; return 1; fi
    sleep 5
  done
}
# no_metadata: only root of the machine itself reaches the metadata service, which tells the secrets of the first boot; not the
# people on it, and not containers or pods. Now and at every boot; nothing is installed for it.
no_metadata() {
  mkdir -p /opt/indaco
  cat >/opt/indaco/no-metadata <<'END'
#!/bin/sh
command -v iptables >/dev/null 2>&1 || exit 0
rule() {
  table="$1"
  shift
  iptables -w -t "$table" -C "$@" 2>/dev/null || iptables -w -t "$table" -I "$@" || true
}
service='--destination 169.254.169.254 --protocol tcp --dport 80'
rule raw PREROUTING $service --jump DROP
rule filter OUTPUT $service -m owner ! --uid-owner 0 --jump REJECT
END
  chmod 0755 /opt/indaco/no-metadata
  /opt/indaco/no-metadata
  if [ -d /run/systemd/system ]; then
    printf '%s\\n' '[Unit]' 'Before=docker.service k3s.service' '[Service]' Type=oneshot ExecStart=/opt/indaco/no-metadata \
      '[Install]' WantedBy=multi-user.target >/etc/systemd/system/no-metadata.service
    systemctl enable no-metadata || true
  fi
}
unused_disk() {
  lsblk --bytes --nodeps --noheadings --list --paths --output SIZE,NAME,TYPE | sort -n | while read -r size name kind; do
    if [ "$kind" = disk ] && [ "$size" -ge "$1" ] && found=$(wipefs "$name" 2>/dev/null) && [ -z "$found" ]; then
      echo "$name"
      break
    fi
  done | grep .
}
# blank_disk BYTES: name of the smallest disk of at least that size with nothing on it; volumes may be attached late
blank_disk() { retry 60 unused_disk "$1"; }
# mount_always SOURCE FOLDER: now and at every boot, before the engine, which may keep all it has there
mount_always() {
  mkdir -p "$2"
  grep -qF "$1 $2 " /etc/fstab ||
    printf '%s %s auto defaults,nofail,x-systemd.before=docker.service 0 2\\n' "$1" "$2" >>/etc/fstab
  mountpoint -q "$2" || mount "$2"
}
# new_volume LABEL BYTES FOLDER FILESYSTEM: made once, found again by its label
new_volume() {
  if ! blkid -L "$1" >/dev/null; then
    command -v "mkfs.$4" >/dev/null 2>&1 || packages "$4progs"
    "mkfs.$4" -L "$1" "$(blank_disk "$2")"
  fi
  mount_always "LABEL=$1" "$3"
}
# old_volume ID FOLDER: one that has been used before; nothing is ever made on it
old_volume() {
  retry 60 test -e "$1"
  mount_always "$1" "$2"
}
install_engine() {
  if command -v dnf >/dev/null 2>&1; then
    packages dnf-plugins-core curl
    dnf config-manager --add-repo https://download.docker.com/linux/centos/docker-ce.repo
    packages docker-ce docker-ce-cli containerd.io docker-compose-plugin
  else
    packages docker.io curl ca-certificates
    packages docker-compose-v2 || packages docker-compose-plugin || packages docker-compose
  fi
}
# engine: the container engine is installed and answers
engine() {
  command -v docker >/dev/null 2>&1 || install_engine
  if command -v systemctl >/dev/null 2>&1; then systemctl enable --now docker || true; fi
  retry 12 docker info >/dev/null 2>&1 || { echo 'the container engine does not start' >&2; return 1; }
  no_metadata # again: the engine brings iptables
}
compose() { if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi; }
"""


class RecipeError(ValueError):
    """A value with which software cannot be installed; ``name`` is the property."""

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        super().__init__(message)


def checked(properties: Mapping[str, object], name: str, pattern: str, message: str) -> str:
    """Return a property that matches as a whole. Raises: RecipeError."""
    value = source_text(properties.get(name))
    if not re.fullmatch(pattern, value):
        raise RecipeError(name, message)
    return value


def write(path: str, content: str, mode: str = "0600") -> str:
    """Return the command that writes a file."""
    return f"( umask 077; printf '%s' {shlex.quote(content)} > {shlex.quote(path)}; chmod {mode} {shlex.quote(path)} )"


def environment(properties: Mapping[str, object]) -> dict[str, str]:
    """Return the variables of a compose project, each of one line, as its .env file holds them.

    ``environment_variables`` and, which count more, ``secret_variables`` are each a map, or a list of maps, NAME: value
    or {key: NAME, value: value}.
    Raises: RecipeError, named like the property that is wrong: only so does it tell nothing of a secret.
    """
    return _lines(properties, "environment_variables") | _lines(properties, "secret_variables")


def _lines(properties: Mapping[str, object], name: str) -> dict[str, str]:
    raw = properties.get(name)
    found: dict[str, str] = {}
    for item in [raw] if isinstance(raw, dict) else as_list(raw):
        pairs = as_map(item)
        if pairs.keys() == {"key", "value"}:
            pairs = {source_text(pairs["key"]): pairs["value"]}
        found |= variables(pairs.items(), name)
    for key, text in found.items():
        if "\n" in text:
            raise RecipeError(name, f"the variable {key!r} must be a single line")
    return found


def variables(pairs: Iterable[tuple[str, object]], name: str) -> dict[str, str]:
    """Return variables with their values as text; *name* is the property that they come from. Raises: RecipeError."""
    found = {key: source_text(value) for key, value in pairs}
    for key, text in found.items():
        if not re.fullmatch(_VARIABLE, key):
            raise RecipeError(name, f"{key[:60]!r} is not the name of a variable")
        if "\0" in text:
            raise RecipeError(name, f"the variable {key!r} has a zero byte, which no variable can hold")
    return found
