"""Accounts for people, each with its own key; the first one is the site's business, which makes it with the machine."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from indaco_tosca.recipes.shell import RecipeError
from indaco_tosca.scalars import source_text

_PROPERTY: Final = "os_users"
_NAME: Final = r"[a-z_][a-z0-9_-]{0,31}"
_KEY: Final = r"[^\x00-\x1f\x7f]{1,16384}"  # what is no key opens nothing: the server passes it over
_MAKE: Final = """\
# account NAME KEY SUDO: made once, with this key among its own; SUDO is yes or no
account() {
  id -u "$1" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$1"
  home=$(getent passwd "$1" | cut -d: -f6)
  if [ -n "$2" ]; then
    install -d -m 700 -o "$1" -g "$(id -gn "$1")" "$home/.ssh"
    touch "$home/.ssh/authorized_keys"
    grep -qxF "$2" "$home/.ssh/authorized_keys" || printf '%s\\n' "$2" >>"$home/.ssh/authorized_keys"
    chown "$1" "$home/.ssh/authorized_keys"
    chmod 600 "$home/.ssh/authorized_keys"
  fi
  if [ "$3" = yes ]; then ( umask 0227; printf '%s ALL=(ALL) NOPASSWD:ALL\\n' "$1" >"/etc/sudoers.d/90-$1" ); fi
}
"""


def accounts(users: Sequence[Mapping[str, object]]) -> str:
    """Return the part of the script that makes all accounts but the first; nothing for one. Raises: RecipeError."""
    named = [user for user in users if source_text(user.get("os_user_name"))]
    calls = [_call(user) for user in named]
    return _MAKE + "".join(calls[1:]) if len(calls) > 1 else ""


def _call(user: Mapping[str, object]) -> str:
    name, key = source_text(user.get("os_user_name")), source_text(user.get("os_user_ssh_public_key")).strip()
    if not re.fullmatch(_NAME, name):
        message = "the name of an account has small letters, digits, - and _, a letter first, 32 at most"
        raise RecipeError(_PROPERTY, f"{name[:40]!r} cannot be the name of an account: {message}")
    if key and not re.fullmatch(_KEY, key):
        raise RecipeError(_PROPERTY, f"the key of {name} must be on one line, as in a .pub file")
    return shlex.join(["account", name, key, "yes" if user.get("os_user_add_to_sudoers") is True else "no"]) + "\n"
