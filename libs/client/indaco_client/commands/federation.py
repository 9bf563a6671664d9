"""The federation: providers, agreements, quotas and usage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import click

from indaco_client.program import call, group_of, instant, output_option
from indaco_client.tables import show

if TYPE_CHECKING:
    from indaco_client.client import Client
    from indaco_client.wire import Json

PROVIDERS = {"id": "id", "kind": "kind", "state": "state", "regions": "regions", "": "note"}
AGREEMENTS = {
    "id": "id", "group": "group", "provider": "provider", "region": "region", "state": "state", "limits": "limits", "until": "valid_to",
}  # fmt: skip
QUOTAS = {
    "group": "group", "provider": "provider", "region": "region", "resource": "resource", "limit": "limit", "used": "used", "held": "held",
    "free": "free",
}  # fmt: skip

USAGE = {
    "core-hours": "core_hours", "GiB-hours": "memory_gib_hours", "wall hours": "wall_hours", "machines": "machines", "running": "running",
}  # fmt: skip

_group = click.option("--group", help="Only of this group (INDACO_GROUP).")
_provider = click.option("--provider", help="Only with this provider.")


async def _all(members: AsyncIterator[Json]) -> list[Json]:
    return [one async for one in members]


def _read(members: Callable[[Client], AsyncIterator[Json]]) -> list[Json]:
    return call(lambda client: _all(members(client)))


@click.group()
def provider() -> None:
    """The sites of the federation.

    Example: indaco provider list
    """


@provider.command("list")
@click.option("--state", help="Only of this state: active, degraded, maintenance …")
@output_option
def list_providers(*, state: str | None, output: str) -> None:
    """List the sites, and whether something can be placed there.

    Example: indaco provider list --state active
    """
    found = _read(lambda client: client.providers(state=state))
    rows = [{**each, "note": "(simulated)" if each["simulated"] else ""} for each in found]
    show(found if output in {"json", "yaml"} else rows, output, PROVIDERS)


@provider.command("show")
@click.argument("id")
@output_option
def show_provider(*, id: str, output: str) -> None:
    """Show a site.

    Example: indaco provider show CLOUD-CNAF-T1
    """
    show(call(lambda client: client.provider(id)), output)


@click.group()
def agreement() -> None:
    """What your groups may use of which site.

    Example: indaco agreement list
    """


@agreement.command("list")
@_group
@_provider
@output_option
def list_agreements(*, group: str | None, provider: str | None, output: str) -> None:
    """List the agreements of your groups.

    Example: indaco agreement list --group cms
    """
    found = _read(lambda client: client.agreements(group=group_of(group), provider=provider))
    rows = [{**each, "limits": _amounts(each["limits"])} for each in found]
    show(found if output in {"json", "yaml"} else rows, output, AGREEMENTS)


@agreement.command("show")
@click.argument("id")
@output_option
def show_agreement(*, id: str, output: str) -> None:
    """Show an agreement.

    Example: indaco agreement show cms-cnaf
    """
    show(call(lambda client: client.agreement(id)), output)


@click.command("quota")
@_group
@_provider
@output_option
def quota(*, group: str | None, provider: str | None, output: str) -> None:
    """Show what your groups have left, and where.

    How much of each agreement is used, held for what is being built, and free; some seconds late.

    Example: indaco quota --group cms
    """
    found = _read(lambda client: client.quotas(group=group_of(group), provider=provider))
    if output in {"json", "yaml", "name"}:
        show(found, output, name="agreement")
        return
    show([row for each in found for row in _rows(each)], output, QUOTAS)


def _rows(quota: Json) -> list[Json]:
    resources: dict[str, Any] = quota["resources"]
    if not resources:
        return [{**quota, "resource": "(nothing heard yet)"}]
    return [{**quota, "resource": name, **amounts} for name, amounts in resources.items()]


@click.command("usage")
@click.option(
    "--scope", type=click.Choice(["own", "group", "all"]), default="own", show_default=True,
    help="Yours, all of the --group, or (operators, auditors) everybody's.",
)  # fmt: skip
@_group
@click.option(
    "--from",
    "since",
    type=instant,
    metavar="TIME",
    help="2026-11-01, with or without a time; default: 30 days before --to.",
)
@click.option("--to", "until", type=instant, metavar="TIME", help="Until when; default: now.")
@click.option(
    "--by",
    type=click.Choice(["deployment", "provider", "owner", "group"]),
    default="provider",
    show_default=True,
    help="What to add up for.",
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), help="At most so many rows; those with the most core-hours come first."
)
@output_option
def usage(*, scope: str, group: str | None, output: str, **asked: Any) -> None:
    """Show what your machines used, or a group's.

    What was allocated counts, busy or not.

    Example: indaco usage --from 2026-11-01 --by deployment
    """
    path = group_of(group) if scope == "group" else group
    found = call(lambda client: client.usage(scope=scope, group=path, **asked))
    if output in {"json", "yaml", "name"}:
        show(found if output != "name" else found["content"], output, name=asked["by"])
        return
    by = asked["by"]
    rows = [{**row, "of": _named(row[by])} for row in found["content"]]
    total = [{**found["total"], "of": f"all {found['rows']}"}] if output == "table" else []
    show(rows + total, output, {by: "of", **USAGE})
    if output == "table":
        click.echo(f"from {found['from'][:16]}Z to {found['to'][:16]}Z", err=True)


def _named(key: Any) -> str:
    """Return what a row is of: a text, an owner, or a group."""
    return key if isinstance(key, str) else str(key.get("path") or key.get("subject"))


def _amounts(limits: Json) -> str:
    return ", ".join(f"{name} {amount}" for name, amount in limits.items() if amount)
