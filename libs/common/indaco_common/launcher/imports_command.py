"""``indaco imports``: pin the texts that templates import, so that services need not fetch them."""

from collections.abc import Sequence
from pathlib import Path

import click

from indaco_common.clock import SystemClock
from indaco_common.errors import IndacoError
from indaco_common.imports import Closure, Folder, Lock
from indaco_common.imports.allowed import AllowList
from indaco_common.imports.content import check_closure
from indaco_common.imports.fetch import Fetcher
from indaco_common.imports.mirror import Mirror, read_text
from indaco_common.imports.refresh import Change, Refreshed, pin, refresh

from .operations import run_async

SHOWN_TYPES = 40  # of each kind of change

folder_option = click.option(
    "--folder", "path", required=True, envvar="INDACO_IMPORTS", show_envvar=True, help="Folder of imports.lock and texts.",
    type=click.Path(file_okay=False, path_type=Path),
)  # fmt: skip


@click.group()
def imports() -> None:
    """The texts that templates import by URL, pinned by their hash."""


@imports.command("refresh")
@folder_option
@click.option(
    "--allow", multiple=True, envvar="INDACO_IMPORTS_ALLOW", show_envvar=True, metavar="HOST/PATH/",
    help="What may be fetched, over https; may be given several times.",
)  # fmt: skip
@click.option(
    "--mirror", "mirror_map", type=click.Path(dir_okay=False, path_type=Path),
    help="Take texts from local files, not from the network: lines of URL or prefix, tab, path.",
)  # fmt: skip
@click.argument("urls", nargs=-1)
def refresh_imports(path: Path, allow: tuple[str, ...], mirror_map: Path | None, urls: tuple[str, ...]) -> None:
    """Fetch URLS and all that they import, and pin what came; without URLS whatever came the same way before.

    \b
    Examples:
      indaco imports refresh --allow raw.githubusercontent.com/indigo-dc/tosca-types/ \\
        https://raw.githubusercontent.com/indigo-dc/tosca-types/master/custom_types.yaml
      indaco imports refresh --mirror mirror.tsv
    """  # noqa: D301 - click's mark for a paragraph that is not to be wrapped

    async def work() -> None:
        folder = Folder(path)
        with folder.written() as lock:
            if mirror_map:
                mirror = Mirror.read(mirror_map)
                found = await refresh(folder, lock, _named(lock, urls, mirror.origin), mirror, SystemClock().now())
            else:
                async with Fetcher(AllowList.of(allow)) as fetcher:
                    found = await refresh(
                        folder, lock, _named(lock, urls, fetcher.origin), fetcher, SystemClock().now()
                    )
            folder.put(found.lock, found.texts.values())
        _show(found)

    run_async(work)


def _named(lock: Lock, urls: Sequence[str], origin: str) -> list[str]:
    named = list(dict.fromkeys(urls)) or [url for url, pinned in lock.imports.items() if pinned.origin == origin]
    if not named:
        raise click.UsageError(f"nothing was pinned from {origin} yet: name a URL")
    return named


@imports.command("add")
@folder_option
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("url")
def add_import(path: Path, file: Path, url: str) -> None:
    """Pin the text of FILE for URL; a refresh leaves it alone unless it names that URL.

    Example: indaco imports add types/site.yaml https://types.example.org/site.yaml
    """

    async def work() -> None:
        folder, text = Folder(path), read_text(file)
        check_closure(url, {url: text}.get)
        with folder.written() as lock:
            after, changes = pin(folder, lock, {url: text}, origin="file", now=SystemClock().now())
            folder.put(after, [text])
        _show(Refreshed(after, {url: text}, changes))
        _warn(check_closure(url, Closure(after, folder.text)))

    run_async(work)


@imports.command("list")
@folder_option
def list_imports(path: Path) -> None:
    """List what is pinned: digest, bytes, since when, from where, URL. Example: indaco imports list"""

    async def work() -> None:
        for url, pinned in sorted(Folder(path).lock().imports.items()):
            click.echo(
                f"{pinned.sha256[:12]}  {pinned.size:>7}  {pinned.fetched_at:%Y-%m-%d %H:%M}  {pinned.origin:<6}  {url}"
            )

    run_async(work)


@imports.command("verify")
@folder_option
def verify_imports(path: Path) -> None:
    """Check every text against its hash, and whether what it imports is pinned too. Example: indaco imports verify"""

    async def work() -> None:
        folder, failed = Folder(path), 0
        lock = folder.lock()
        for url in sorted(lock.imports):
            try:
                _warn(check_closure(url, Closure(lock, folder.text)))
            except IndacoError as error:
                failed += 1
                click.echo(f"FAIL  {error.detail}")
        if failed:
            raise click.ClickException(f"{failed} of {len(lock.imports)} cannot be used")
        click.echo(f"{len(lock.imports)} texts are as they were pinned")

    run_async(work)


def _show(found: Refreshed) -> None:
    for change in found.changes:
        before = change.before.sha256[:12] if change.before else "new"
        click.echo(f"{change.url}\n  {before} -> {change.after.sha256[:12]}  {change.after.size} bytes")
        _show_types(change)
    for url in found.stand_ins:
        click.echo(f"{url}\n  not fetched: the bundled types stand for it")
    click.echo(f"{len(found.texts)} read, {len(found.changes)} changed, {len(found.lock.imports)} pinned")


def _show_types(change: Change) -> None:
    for mark, names in (("+", change.added), ("-", change.removed), ("~", change.redefined)):
        for name in sorted(names)[:SHOWN_TYPES]:
            click.echo(f"  {mark} {name}")
        if len(names) > SHOWN_TYPES:
            click.echo(f"  {mark} and {len(names) - SHOWN_TYPES} more")


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}")
