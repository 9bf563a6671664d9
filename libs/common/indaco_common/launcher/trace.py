"""``indaco trace``: the whole story of a deployment, as a tree, from the journals of all services."""

import json
from collections import defaultdict
from typing import Any

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from indaco_common.envelope import Envelope
from indaco_common.infra import store_file
from indaco_common.settings import Settings
from indaco_common.store import JournalQuery

from .operations import published, run_async
from .specs import all_specs, read

BRIEF = ("attempt", "slot", "node", "serial", "reason", "clean", "slots", "provider", "shortfall")


@click.command()
@click.argument("id")
@click.option("-o", "--output", type=click.Choice(["tree", "json"]), default="tree", help="How to print it.")
def trace(id: str, output: str) -> None:
    """Print every message about deployment ID: what caused what, when, and who said it.

    Example: indaco trace 0190f7c1-5b1e-7c3a-9c1d-2f0e8a7b6c5d
    """

    async def work() -> None:
        envelopes = await story(read(Settings), id)
        if not envelopes:
            raise click.ClickException(f"the journals know nothing of {id}")
        if output == "json":
            click.echo(json.dumps([envelope.model_dump(mode="json") for envelope in envelopes], indent=1))
        else:
            Console().print(tree_of(id, envelopes))

    run_async(work)


async def story(settings: Settings, id: str) -> list[Envelope]:
    """Return all envelopes about *id* from every service's journal, oldest first; of a service that has none yet there are none."""
    found: dict[str, Envelope] = {}
    for spec in all_specs():
        if (file := store_file(settings, spec.name)) is not None and not file.exists():  # to open it would make it
            continue
        async for envelope, _ in published(settings, spec.name, JournalQuery(correlation_id=id)):
            found[envelope.id] = envelope
    return sorted(found.values(), key=lambda envelope: (envelope.time, envelope.id))


def tree_of(id: str, envelopes: list[Envelope]) -> Tree:
    """Hang each message below the one that caused it; what a timer caused hangs at the top."""
    children: dict[str | None, list[Envelope]] = defaultdict(list)
    known = {envelope.id for envelope in envelopes}
    for envelope in envelopes:
        children[envelope.causationid if envelope.causationid in known else None].append(envelope)
    root = Tree(Text(f"deployment {id}", style="bold"))
    first = envelopes[0].time

    def hang(branch: Tree, cause: str | None) -> None:
        for envelope in children[cause]:
            late = (envelope.time - first).total_seconds()
            label = Text(f"+{late:8.3f} s  ").append(envelope.name, style="cyan").append(f"  {_brief(envelope.data)}")
            hang(branch.add(label), envelope.id)

    hang(root, None)
    return root


def _brief(data: dict[str, Any]) -> str:
    shown = {name: data[name] for name in BRIEF if name in data}
    if isinstance(place := data.get("place"), dict):
        shown["place"] = place.get("provider")
    if isinstance(reason := shown.get("reason"), dict):
        shown["reason"] = reason.get("detail")
    return "  ".join(f"{name}={value}" for name, value in shown.items())
