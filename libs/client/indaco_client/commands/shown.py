"""How people are shown a deployment, and a plan of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from indaco_client.errors import NotFound, Refused
from indaco_client.tables import show

if TYPE_CHECKING:
    from indaco_client.client import Client
    from indaco_client.wire import Json

_SHOWN = ("id", "name", "status", "status_reason", "task", "group", "provider", "region", "lock_reason", "created_at")


async def own_outputs(client: Client, id: str) -> Json:
    """Return the outputs, for who owns the deployment; nothing for others."""
    try:
        return await client.outputs(id)
    except (Refused, NotFound):
        return {}


def show_deployment(one: Json, output: str, outputs: Json) -> None:
    """Print a deployment, its outputs without the secret ones, and why it went where it is."""
    if output != "table":
        show(one, output)
        return
    rows = {name: one[name] for name in _SHOWN if one.get(name) and one[name] != "NONE"}
    if one.get("simulated") and "provider" in rows:
        rows["provider"] += " (simulated)"
    for name, pairs in (("tags", one.get("tags")), ("shared with", one.get("shares"))):
        if pairs:
            rows[name] = ", ".join(f"{key}={value}" for key, value in pairs.items())
    hidden = f"(secret: indaco deployment outputs {one.get('name') or one['id']})"
    for name, value in outputs.items():
        rows[f"output {name}"] = hidden if name in one.get("secret_outputs", ()) else value
    rows |= _refusals(one.get("refused", ()))
    show(rows, "table")


def show_plan(found: Json, output: str) -> None:
    """Print what would be created, where, and why not elsewhere."""
    if output != "table":
        show(found, output)
        return
    plan, placement = found["plan"], found["placement"]
    show([_node(node) for node in plan["nodes"]], "table", _NODE)
    click.echo()
    simulated = [{**each, "note": "(simulated)" if each.get("simulated") else ""} for each in placement["ranked"]]
    ranked = [{**each, "rank": number, "why": _terms(each)} for number, each in enumerate(simulated, start=1)]
    show(ranked, "table", _RANKED)
    if refusals := _refusals(placement["refused"]):
        click.echo()
        show(refusals, "table")
    if not ranked:
        click.echo("\nNo place would take it now.", err=True)
    elif placement["ranked_total"] > len(ranked):
        click.echo(f"\nand {placement['ranked_total'] - len(ranked)} more places", err=True)


def _node(node: Json) -> Json:
    memory = f"{node['memory_mib'] / 1024:.3g} GiB" if node["memory_mib"] else ""
    image = node["image"]
    return {
        "node": node["name"], "kind": node["kind"], "count": node["count"],
        "vcpus": node["instance_type"] or (f"{node['cpu_milli'] / 1000:g}" if node["cpu_milli"] else ""), "memory": memory,
        "disk": f"{node['disk_gib']} GiB" if node["disk_gib"] else "", "gpus": node["gpus"] or "",
        "image": image.get("image") or " ".join(filter(None, (image.get("distribution"), image.get("version")))),
        "ports": [f"{port['port']}" if port["port"] == port["port_end"] else f"{port['port']}-{port['port_end']}" for port in node["ports"]],
    }  # fmt: skip


def _terms(ranked: Json) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in ranked.get("terms", {}).items())


def _refusals(refused: list[Json]) -> Json:
    """Return a row for each provider that was refused, with all that speaks against it."""
    rows: Json = {}
    for reason in refused:
        name = f"not {reason['provider']}"
        rows[name] = "; ".join(filter(None, (rows.get(name), reason["detail"])))
    return rows


_NODE = {
    "node": "node", "kind": "kind", "count": "count", "vCPU": "vcpus", "memory": "memory", "disk": "disk", "GPU": "gpus",
    "image": "image", "ports": "ports",
}  # fmt: skip
_RANKED = {
    "rank": "rank",
    "provider": "provider",
    "region": "region",
    "score": "score",
    "because of": "why",
    "": "note",
}
