"""Signing in and out, and who one is."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from indaco_client import config
from indaco_client.errors import NotSignedIn, Unreachable
from indaco_client.program import call, output_option, program
from indaco_client.tables import show

if TYPE_CHECKING:
    from indaco_client.wire import Json

LOCAL_ISSUER = "http://127.0.0.1:8085"  # that `indaco run` brings along


@click.command("login")
@click.option("--url", help="The gateway (INDACO_URL).")
@click.option("--issuer", help="The OpenID Connect issuer (INDACO_ISSUER); by default the one that the gateway names.")
@click.option("--client-id", help="The name under which the issuer knows this program (INDACO_CLIENT_ID).")
def login(*, url: str | None, issuer: str | None, client_id: str | None) -> None:
    """Sign in: approve this device in a browser.

    The browser may be on another machine. The tokens are kept in the configuration folder, for you alone, one session for each context. Instead of signing in you can set
    INDACO_TOKEN, or a token_command or an oidc_account (of oidc-agent) in a context or the environment.

    Example: indaco login --url https://paas.example.org
    """
    from indaco_client import login as sessions  # noqa: PLC0415 - HTTP takes long to import

    settings = program().settings
    gateway = settings.value("url", url) or config.DEFAULT_URL
    config.check("url", gateway, "the address of the gateway")
    if gateway.startswith("http://") and not _is_local(gateway):
        click.echo(f"warning: {gateway} is not encrypted: whoever sees the traffic can act as you", err=True)

    def tell(address: str, code: str) -> None:
        click.echo(f"Open {address}\nand approve the code {code}")

    async def work() -> Json:
        at, known = await _issuer(gateway, settings.value("issuer", issuer))
        name = settings.value("client_id", client_id) or known or sessions.CLIENT_ID
        return await sessions.sign_in(at, gateway, tell, client_id=name)

    sessions.save(asyncio.run(work()), settings.context.value)
    click.echo(f"Signed in at {gateway}")


async def _issuer(gateway: str, asked: str | None) -> tuple[str, str]:
    """Return where to sign in, and as which client, as far as the gateway says. Raises: NotSignedIn, Unreachable."""
    from indaco_client import login as sessions  # noqa: PLC0415

    try:
        offered = await sessions.offered(gateway)
    except Unreachable:
        if asked is None:
            raise
        offered = []  # signing in needs the issuer alone
    if asked:
        known = {each["issuer"].rstrip("/"): str(each["client_id"]) for each in offered}
        return asked, known.get(asked.rstrip("/"), "")
    if len(offered) == 1:
        return offered[0]["issuer"], str(offered[0]["client_id"])
    if offered:
        names = ", ".join(each["issuer"] for each in offered)
        raise NotSignedIn(
            f"{gateway} trusts several issuers: {names}", hint=f"indaco login --issuer {offered[0]['issuer']}"
        )
    if _is_local(gateway):
        return LOCAL_ISSUER, ""
    raise NotSignedIn(f"{gateway} does not say where to sign in", hint="indaco login --issuer https://…")


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@click.command("logout")
def logout() -> None:
    """Sign out of the context in use.

    Its tokens are forgotten, and the issuer is asked to take them back.

    Example: indaco logout
    """
    from indaco_client import login as sessions  # noqa: PLC0415

    if not asyncio.run(sessions.end(program().settings.context.value)):
        click.echo("the issuer did not take the tokens back; they end by themselves", err=True)
    click.echo("Signed out")


@click.command("whoami")
@output_option
def whoami(*, output: str) -> None:
    """Show who you are to the gateway.

    Issuer, name, groups, what you may do, and how long the token is good.

    Example: indaco whoami
    """
    show(call(lambda client: client.me()), output, name="subject")
