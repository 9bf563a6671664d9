"""The whole script of a first boot: the volumes, the accounts, then the software, which may keep its data on the former."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from indaco_tosca.model import Volume
from indaco_tosca.recipes.accounts import accounts
from indaco_tosca.recipes.shell import FUNCTIONS, RecipeError

_FOLDER: Final = r"(/[A-Za-z0-9_.-]{1,64}){1,8}/?"
_FILE_SYSTEMS: Final = frozenset({"ext3", "ext4", "xfs"})
_SERIAL: Final = 20  # characters of a volume's id that its disk shows


def script(parts: list[str], volumes: tuple[Volume, ...] = (), users: Sequence[Mapping[str, object]] = ()) -> str:
    """Return a whole script, or nothing for no parts, no volume to mount and no account to make.

    A volume without a mount point is left alone, and so is one from a snapshot: its disk cannot be told from others.
    Raises: RecipeError, named ``location``, ``fs_type`` or ``os_users``.
    """
    mounts = [_mounted(volume) for volume in volumes if volume.mount and not volume.snapshot_id]
    made = "".join([*mounts, accounts(users), *parts])
    return f"{FUNCTIONS}no_metadata\n{made}" if made else ""


def _mounted(volume: Volume) -> str:
    if not re.fullmatch(_FOLDER, volume.mount) or ".." in volume.mount.split("/"):
        raise RecipeError(
            "location", f"{volume.mount[:60]!r} is not an absolute path of letters, digits, dots and dashes"
        )
    folder = volume.mount.rstrip("/")
    if volume.volume_id:
        serial = volume.volume_id.rsplit("/", 1)[-1][:_SERIAL]
        return f"old_volume {shlex.quote(f'/dev/disk/by-id/virtio-{serial}')} {folder}\n"
    if volume.fs_type not in _FILE_SYSTEMS:
        raise RecipeError("fs_type", f"the file system must be one of {', '.join(sorted(_FILE_SYSTEMS))}")
    from hashlib import sha256  # noqa: PLC0415 - loads OpenSSL, for which a machine without volumes need not wait

    label = "v-" + sha256(volume.name.encode()).hexdigest()[:8]  # XFS allows 12 characters
    return f"new_volume {label} {volume.size_bytes} {folder} {volume.fs_type}\n"
