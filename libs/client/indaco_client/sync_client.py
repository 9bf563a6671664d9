"""The client for programs without an event loop: the methods of :class:`~indaco_client.Client`, each until its answer is there.

Written by scripts/sync_client.py from the asynchronous client.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from .catalogue import LATEST, Catalogue
from .client import Client
from .loop import Loop
from .wire import Json


class SyncCatalogue:
    """The gateway's service catalogue, as methods."""

    def __init__(self, catalogue: Catalogue, loop: Loop) -> None:
        self._of, self._loop = catalogue, loop

    def cards(self, *, group: str | None = None) -> list[Json]:
        """Return the cards for any of the user's groups, or for one of them."""
        return self._loop.run(self._of.cards(group=group))

    def card(self, name: str) -> Json:
        """Return a card with its guide, and its versions, newest first."""
        return self._loop.run(self._of.card(name))

    def version(self, name: str, number: str = LATEST) -> Json:
        """Return a version's ``template`` (text), ``digest`` and ``tests``."""
        return self._loop.run(self._of.version(name, number))

    def form(self, name: str, number: str = LATEST) -> Json:
        """Return what a version asks for: a JSON Schema and hints."""
        return self._loop.run(self._of.form(name, number))

    def status(self) -> Json:
        """Return where the catalogue comes from and what is wrong with it; for administrators."""
        return self._loop.run(self._of.status())

    def reload(self) -> Json:
        """Let the gateway that answers read it now, and return its status; for administrators."""
        return self._loop.run(self._of.reload())


class SyncClient:
    """One user at one gateway. Use it with ``with``, or call :meth:`close`.

    The calls are made by an event loop in a thread of its own; several threads may use one client. Where
    :class:`~indaco_client.Client` yields members as they come, this does, too. Raises what the other raises.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._begin(Client(url, token))

    @classmethod
    def from_env(cls, *, context: str | None = None, url: str | None = None) -> Self:
        """Return a client for what the command line would use: the environment, the context, the session of ``indaco login``."""
        made = cls.__new__(cls)
        made._begin(Client.from_env(context=context, url=url))  # noqa: SLF001 - of our own
        return made

    def _begin(self, client: Client) -> None:
        self._of, self._loop = client, Loop()
        self._loop.run(client.__aenter__())
        self.catalogue = SyncCatalogue(client.catalogue, self._loop)

    @property
    def url(self) -> str:
        return self._of.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections and the loop; a second call does nothing."""
        self._loop.close(self._of.__aexit__())

    def create(
        self,
        template: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        group: str | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Json:
        """Ask for a deployment of *template*: a text, or ``catalogue:NAME[@VERSION]``.

        *options* are further fields of the API (``name``, ``tags``, ``callback`` …). It is sent under an idempotency key, so that it is
        made once, however often it has to be sent.
        """
        return self._loop.run(
            self._of.create(template, parameters, group=group, idempotency_key=idempotency_key, **options)
        )

    def plan(
        self,
        template: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        group: str | None = None,
        timeout_s: float = 30,
    ) -> Json:
        """Return what would be created, where, and why not elsewhere; nothing is. Raises: TimedOut."""
        return self._loop.run(self._of.plan(template, parameters, group=group, timeout_s=timeout_s))

    def deployments(self, **filters: str | Sequence[str]) -> Iterator[Json]:
        """Yield deployments, newest first, page by page as they are asked for; without those that are deleted.

        *filters*: ``scope`` (``own``, ``shared``, ``all``), ``status``, ``group``, ``provider``, ``tag``, ``owner``, ``text``; those that
        the API lets repeat may be sequences.
        """
        return self._loop.iterate(self._of.deployments(**filters))

    def deployment(self, id: str) -> Json:
        return self._loop.run(self._of.deployment(id))

    def change(self, id: str, *, name: str | None = None, tags: Mapping[str, str | None] | None = None) -> Json:
        """Rename a deployment, set tags, and remove those that are None here; return it as it is then."""
        return self._loop.run(self._of.change(id, name=name, tags=tags))

    def update(self, id: str, parameters: Mapping[str, Any] | None = None, *, template: str | None = None) -> None:
        """Ask for other inputs, or another template, of a deployment that runs; :meth:`wait` tells how it went."""
        self._loop.run(self._of.update(id, parameters, template=template))

    def delete(self, id: str, *, force: bool = False) -> None:
        """Ask for the deletion; where an answer was lost on the way, that it is under way is answer enough."""
        self._loop.run(self._of.delete(id, force=force))

    def lock(self, id: str, reason: str) -> None:
        """Keep a deployment from being changed and deleted, until it is unlocked."""
        self._loop.run(self._of.lock(id, reason))

    def unlock(self, id: str) -> None:
        self._loop.run(self._of.unlock(id))

    def share(self, id: str, group: str, access: str = "read") -> None:
        """Let the members of a group of yours see a deployment (``read``), or also change it (``change``)."""
        self._loop.run(self._of.share(id, group, access))

    def unshare(self, id: str, group: str) -> None:
        self._loop.run(self._of.unshare(id, group))

    def template(self, id: str) -> str:
        return self._loop.run(self._of.template(id))

    def log(self, id: str) -> str:
        return self._loop.run(self._of.log(id))

    def outputs(self, id: str) -> Json:
        """Return all outputs, secret ones too: for the owner alone."""
        return self._loop.run(self._of.outputs(id))

    def timeline(self, id: str, *, after: int = 0) -> list[Json]:
        """Return the steps so far that are behind number *after*, oldest first."""
        return self._loop.run(self._of.timeline(id, after=after))

    def resources(self, id: str) -> list[Json]:
        return self._loop.run(self._of.resources(id))

    def act(self, id: str, action: str, machines: Sequence[str] | None = None) -> list[Json]:
        """Have machines stopped or started (*action*: ``stop``, ``start``): the named ones, or all; return them as they are then.

        Names and ids will do. A machine that is so already, or was asked to be, is left alone: asking twice does no harm.
        """
        return self._loop.run(self._of.act(id, action, machines))

    def wait_for_action(self, id: str, action: str, machines: Sequence[str], *, timeout_s: float = 3600) -> list[Json]:
        """Return *machines* once they are what :meth:`act` asked for. Raises: TimedOut; ActionFailed, with why they are not."""
        return self._loop.run(self._of.wait_for_action(id, action, machines, timeout_s=timeout_s))

    def events(self, id: str, *, after: int = 0) -> Iterator[Json]:
        """Yield the steps of the timeline behind number *after* as they come, across broken connections, until all is deleted.

        Raises: Unreachable, if the server stays away.
        """
        return self._loop.iterate(self._of.events(id, after=after))

    def wait(self, id: str, *, timeout_s: float = 3600, until: frozenset[str] | None = None) -> Json:
        """Return the deployment once it has come to an end of what is under way (or to *until*).

        Raises: TimedOut; DeploymentFailed, for a ``*_FAILED`` that was not waited for.
        """
        return self._loop.run(self._of.wait(id, timeout_s=timeout_s, until=until))

    def keys(self) -> list[Json]:
        return self._loop.run(self._of.keys())

    def create_key(self, name: str, public_key: str | None = None, *, timeout_s: float = 30) -> Json:
        """Make a pair, or take *public_key*; return it once it can be put on machines. Raises: TimedOut."""
        return self._loop.run(self._of.create_key(name, public_key, timeout_s=timeout_s))

    def delete_key(self, name: str) -> None:
        self._loop.run(self._of.delete_key(name))

    def reveal_key(self, name: str) -> str:
        """Return the private half of a pair that was made here."""
        return self._loop.run(self._of.reveal_key(name))

    def me(self) -> Json:
        """Return who the token is of: issuer, subject, groups, roles, scopes, and when it ends."""
        return self._loop.run(self._of.me())

    def providers(self, *, state: str | None = None) -> Iterator[Json]:
        """Yield the sites of the federation, of one *state* if it is given."""
        return self._loop.iterate(self._of.providers(state=state))

    def provider(self, id: str) -> Json:
        return self._loop.run(self._of.provider(id))

    def agreements(self, *, group: str | None = None, provider: str | None = None) -> Iterator[Json]:
        """Yield what was agreed for the user's groups, or for one of them, with all providers or one."""
        return self._loop.iterate(self._of.agreements(group=group, provider=provider))

    def agreement(self, id: str) -> Json:
        return self._loop.run(self._of.agreement(id))

    def quotas(self, *, group: str | None = None, provider: str | None = None) -> Iterator[Json]:
        """Yield, for each agreement, what is granted, used, held and free of each resource."""
        return self._loop.iterate(self._of.quotas(group=group, provider=provider))

    def usage(
        self,
        *,
        scope: str | None = None,
        group: str | None = None,
        since: str | None = None,
        until: str | None = None,
        by: str | None = None,
        limit: int | None = None,
    ) -> Json:
        """Return what was used: ``content`` by deployment, provider, owner or group (*by*), and the ``total``.

        *scope*: ``own``, ``group`` (all of *group*), ``all``; *since*, *until*: instants of RFC 3339 (default: the last 30 days);
        *limit*: of the rows.
        """
        return self._loop.run(self._of.usage(scope=scope, group=group, since=since, until=until, by=by, limit=limit))

    def subscriptions(self) -> list[Json]:
        """Return the subscriptions of the user, in the order in which they were made."""
        return self._loop.run(self._of.subscriptions())

    def subscription(self, id: str) -> Json:
        return self._loop.run(self._of.subscription(id))

    def create_subscription(self, url: str, types: Sequence[str] = ("*",), **options: Any) -> Json:
        """Let events be sent to *url*: *types* such as ``deployment.failed``, or patterns with ``*``.

        *options* are further fields of the API (``scope``, ``group``, ``deployment``, ``description``). The answer has the ``secret`` that
        signs what is sent; it is not shown again.
        """
        return self._loop.run(self._of.create_subscription(url, types, **options))

    def change_subscription(self, id: str, changes: Mapping[str, Any]) -> Json:
        """Change fields of the API; None takes ``group`` or ``deployment`` away. Return it as it is then."""
        return self._loop.run(self._of.change_subscription(id, changes))

    def delete_subscription(self, id: str) -> None:
        self._loop.run(self._of.delete_subscription(id))

    def pause_subscription(self, id: str) -> None:
        self._loop.run(self._of.pause_subscription(id))

    def resume_subscription(self, id: str) -> None:
        self._loop.run(self._of.resume_subscription(id))

    def rotate_secret(self, id: str) -> Json:
        """Return the new ``secret``; the earlier one signs for a while, too."""
        return self._loop.run(self._of.rotate_secret(id))

    def ping_subscription(self, id: str) -> None:
        """Let an event be sent for trying it out."""
        self._loop.run(self._of.ping_subscription(id))

    def deliveries(self, id: str, *, state: Sequence[str] = ()) -> list[Json]:
        """Return what waits, and the last of what was sent or given up, newest first; only in these states, if any are named."""
        return self._loop.run(self._of.deliveries(id, state=state))

    def redeliver(self, id: str, delivery: str) -> None:
        """Send a delivery that was given up again, or one that waits at once."""
        self._loop.run(self._of.redeliver(id, delivery))

    def callback_secret(self) -> Json:
        """Return since when callbacks are signed, without the secret. Raises: NotFound, if they are not."""
        return self._loop.run(self._of.callback_secret())

    def make_callback_secret(self) -> Json:
        """Return a new ``secret``, which signs the callbacks of all deployments of the user from now on."""
        return self._loop.run(self._of.make_callback_secret())

    def callback_deliveries(self, id: str, *, state: Sequence[str] = ()) -> list[Json]:
        """Return what became of the callbacks of a deployment, newest first."""
        return self._loop.run(self._of.callback_deliveries(id, state=state))
