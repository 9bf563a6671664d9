"""The federation as its users see it: providers, agreements, quotas, what was used; and who one is."""

from collections.abc import AsyncIterator
from urllib.parse import quote

from .wire import Json, Wire

PAGE = 100


class Federation:
    """A part of :class:`~indaco_client.Client`."""

    _wire: Wire

    async def me(self) -> Json:
        """Return who the token is of: issuer, subject, groups, roles, scopes, and when it ends."""
        return await self._wire.json("GET", "/v1/me")

    def providers(self, *, state: str | None = None) -> AsyncIterator[Json]:
        """Yield the sites of the federation, of one *state* if it is given."""
        return self._wire.pages("/v1/providers", _given(state=state), PAGE)

    async def provider(self, id: str) -> Json:
        return await self._wire.json("GET", f"/v1/providers/{quote(id, safe='') or '-'}")

    def agreements(self, *, group: str | None = None, provider: str | None = None) -> AsyncIterator[Json]:
        """Yield what was agreed for the user's groups, or for one of them, with all providers or one."""
        return self._wire.pages("/v1/agreements", _given(group=group, provider=provider), PAGE)

    async def agreement(self, id: str) -> Json:
        return await self._wire.json("GET", f"/v1/agreements/{quote(id, safe='') or '-'}")

    def quotas(self, *, group: str | None = None, provider: str | None = None) -> AsyncIterator[Json]:
        """Yield, for each agreement, what is granted, used, held and free of each resource."""
        return self._wire.pages("/v1/quotas", _given(group=group, provider=provider), PAGE)

    async def usage(
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
        asked = {
            "scope": scope,
            "group": group,
            "from": since,
            "to": until,
            "by": by,
            "limit": None if limit is None else str(limit),
        }
        return await self._wire.json("GET", "/v1/usage", params=_given(**asked))


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}
