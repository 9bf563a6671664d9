"""Deployments by what people call them: id, unique beginning of an id, or name; and the completion of these in shells."""

import asyncio
import hashlib
import json
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from . import config
from .errors import Conflict, IndacoClientError
from .program import Program, program_of

if TYPE_CHECKING:
    from .client import Client
    from .wire import Json

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_START = re.compile(r"[0-9a-f][0-9a-f-]{3,35}")
GONE = "DELETE_COMPLETE"
MOST = 200  # that are looked at, and that a shell is offered
FRESH_S = 60.0  # how long a shell is offered the same
PATIENCE_S = 3.0  # of a shell that waits for its completions


async def id_of(client: "Client", text: str) -> str:
    """Return the id of the deployment that *text* means. What is not found is returned as it is: the server says so in its words.

    Raises: Conflict, if it could be several.
    """
    if _ID.fullmatch(text) or not text:
        return text
    for where in ({"scope": "own"}, {"scope": "shared"}, {"scope": "own", "status": GONE}):
        found = [one async for one in _some(client, text=text, **where)]
        named = [one for one in found if one.get("name") == text]
        begun = [one for one in found if one["id"].startswith(text)] if _START.fullmatch(text) else []
        meant = (named or begun)[: 1 if "status" in where else None]  # of those that are gone, the last
        if len(meant) > 1:
            told = ", ".join(f"{one['id']} ({one.get('name') or one['status']})" for one in meant[:5])
            raise Conflict(f"{text} could be {len(meant)} deployments: {told}", hint="give more of the id")
        if meant:
            return str(meant[0]["id"])
    return text


async def _some(client: "Client", **filters: str) -> AsyncIterator["Json"]:
    number = 0
    async for one in client.deployments(**filters):
        yield one
        number += 1
        if number >= MOST:
            return


# ── completion


def _offered(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return names and ids of deployments; none where anything is amiss: a shell shows no errors."""
    try:
        known = _known(program_of(context))
    except (IndacoClientError, OSError, ValueError, TypeError, KeyError, TimeoutError):
        return []
    return [
        CompletionItem(word, help=one["status"])
        for one in known
        for word in (one["name"], one["id"])
        if word and word.startswith(incomplete) and word.isprintable()
    ]


def _known(program: Program) -> list[dict[str, str]]:
    file = _cache(program)
    try:
        if time.time() - file.stat().st_mtime < FRESH_S:
            kept: list[dict[str, str]] = json.loads(file.read_text())
            return kept
    except (OSError, ValueError):
        pass
    found = asyncio.run(_fetch(program))
    config.replace(file, json.dumps(found))
    return found


async def _fetch(program: Program) -> list[dict[str, str]]:
    async with asyncio.timeout(PATIENCE_S), program.client() as client:
        found = []
        async for one in client.deployments():
            found.append({"id": one["id"], "name": one.get("name") or "", "status": one["status"]})
            if len(found) >= MOST:
                break
        return found


def _cache(program: Program) -> Path:
    """Return the file of what this user was last offered at this gateway."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "indaco"
    used = program.settings
    key = hashlib.sha256(f"{used.value('url')}\n{used.context.value}".encode()).hexdigest()[:16]
    return base / f"deployments-{key}.json"


deployment_argument = click.argument("id", shell_complete=_offered)
"""The deployment that a command is about: an id, the beginning of one, or a name."""
