"""Contexts: the gateways that somebody works with, each under a name; and where the settings in force come from."""

import dataclasses

import click

from indaco_client import config as settings
from indaco_client.errors import NotFound
from indaco_client.program import output_option, pair, program
from indaco_client.tables import show


@click.group()
def context() -> None:
    """Gateways to work with, by name.

    A context has an address, a group, an issuer, and where tokens come from. They are kept in ~/.config/indaco/config.toml (INDACO_CONFIG).

    Example: indaco context set infn url=https://paas.example.org group=cms
    """


@context.command("list")
@output_option
def list_contexts(*, output: str) -> None:
    """List the contexts; the one in use has a star.

    Example: indaco context list
    """
    known, used = settings.read(), program().settings.context.value
    rows = [{"name": name, "used": name == used, **members} for name, members in sorted(known.contexts.items())]
    if output in {"table", "csv"}:
        rows = [{**row, "used": "*" if row["used"] else ""} for row in rows]
    show(rows, output, {"": "used", "name": "name", "url": "url", "group": "group"}, name="name")


@context.command("use")
@click.argument("name")
def use(*, name: str) -> None:
    """Use a context from now on, where neither --context nor INDACO_CONTEXT says otherwise.

    Example: indaco context use infn
    """
    known = settings.read()
    if name != settings.DEFAULT_CONTEXT:  # which is there without being in the file
        _existing(known, name)
    settings.write(dataclasses.replace(known, current=name))
    click.echo(f"using {name}")


@context.command("set")
@click.argument("name")
@click.argument("members", metavar="KEY=VALUE...", nargs=-1, required=True, type=pair)
def set_members(*, name: str, members: tuple[tuple[str, str], ...]) -> None:
    """Make or change a context. An empty VALUE removes the key.

    The keys: url, group, output, issuer, client_id, token_command (a command that prints a token; it is run without a shell) and
    oidc_account (of oidc-agent).

    Example: indaco context set infn url=https://paas.example.org group=cms oidc_account=infn
    """
    if not settings.NAME.fullmatch(name):
        raise click.UsageError(f"{name!r}: a name has letters, digits, '.', '_' and '-', at most 63")
    known = settings.read()
    for key, value in members:
        if value or key not in settings.KEYS:
            settings.check(key, value, f"{name}.{key}")
    changed = {**known.contexts.get(name, {}), **dict(members)}
    kept = {key: value for key, value in changed.items() if value}
    settings.write(dataclasses.replace(known, contexts={**known.contexts, name: kept}))
    click.echo(f"kept {name} in {settings.config_file()}")


@context.command("delete")
@click.argument("name")
def delete(*, name: str) -> None:
    """Delete a context, and the session that was begun in it.

    Example: indaco context delete infn
    """
    known = settings.read()
    _existing(known, name)
    rest = {key: members for key, members in known.contexts.items() if key != name}
    settings.write(settings.Config(rest, "" if known.current == name else known.current))
    settings.session_file(name).unlink(missing_ok=True)
    click.echo(f"deleted {name}")


def _existing(known: settings.Config, name: str) -> None:
    if name not in known.contexts:
        names = ", ".join(sorted(known.contexts)) or "none"
        raise NotFound(f"there is no context {name}; known: {names}", hint="indaco context list")


@click.group()
def config() -> None:
    """The settings of this program.

    Example: indaco config view --show-origin
    """


@config.command("view")
@click.option("--show-origin", is_flag=True, help="Also who said it.")
@output_option
def view(*, show_origin: bool, output: str) -> None:
    """Show the settings in force, without secrets.

    Example: indaco config view --show-origin
    """
    from indaco_client.tokens import Tokens  # noqa: PLC0415 - HTTP takes long to import

    used = program().settings
    found = {"context": used.context} | {key: each for key in settings.KEYS if (each := used.get(key))}
    rows = [{"name": key, "value": each.value, "origin": each.origin} for key, each in found.items()]
    rows.append({"name": "token", "value": "(not shown)", "origin": Tokens(used).origin})
    titles = ("name", "value", *(("origin",) if show_origin else ()))
    shown = [{title: row[title] for title in titles} for row in rows]
    show(shown, output, {title: title for title in titles}, name="name")
