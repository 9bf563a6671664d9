"""Fixtures of the tests of tokens; other modules have their own under the same names."""

from collections.abc import AsyncIterator

import pytest

from indaco_common.auth import Authenticator, IssuerHttp
from indaco_common.clock import ManualClock

from .auth_world import NOW, Issuer, serving, trusted


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with serving() as found:
        yield found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def http() -> AsyncIterator[IssuerHttp]:
    found = IssuerHttp()
    yield found
    await found.close()


@pytest.fixture
async def auth(issuer: Issuer, clock: ManualClock, http: IssuerHttp) -> AsyncIterator[Authenticator]:
    found = Authenticator([trusted(issuer)], clock, http)
    yield found
    await found.close()
