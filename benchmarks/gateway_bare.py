"""The limit that the gateway is measured against: bare aiohttp handlers over the same authenticator and the same store.

No middleware, no log, no metrics, no rights beyond "is it the caller's own?", no models: dictionaries in and out. As a program
(``python -m benchmarks.gateway_bare PORT FOLDER ISSUER``) it serves until it is stopped.
"""

import asyncio
import hashlib
import json
import signal
import sys
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from indaco_common.auth import Authenticator, IssuerHttp, Principal, TrustedIssuer
from indaco_common.clock import SystemClock
from indaco_common.envelope import Sealed
from indaco_common.store import Query
from indaco_common.store.sqlite import SqliteStore
from indaco_common.testing.federation import AUDIENCE
from indaco_gateway.model.operation import Operation

KIND = "operation"
SHOWN = (
    "id", "name", "tags", "status", "reason", "task", "owner", "group", "place", "created_at", "updated_at", "callback", "attempts",
    "ranked", "refused", "warnings", "outputs", "secret_outputs",
)  # fmt: skip
EVENT = b'id: %d\nevent: test.rang\ndata: {"number": %d, "at": "2026-01-01T00:00:00Z", "title": "Locked", "detail": "so that listeners hear of it"}\n\n'


class Bare:
    def __init__(self, store: SqliteStore, authenticator: Authenticator) -> None:
        self._store, self._authenticator, self._clock = store, authenticator, SystemClock()
        self._rung, self._number = asyncio.Event(), 1

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([
            web.get("/constant", self.constant), web.get("/deployments", self.index), web.post("/deployments", self.create),
            web.get("/deployments/{id}", self.show), web.get("/bytes/{id}", self.stored), web.get("/events", self.events),
            web.put("/events", self.ring),
        ])  # fmt: skip
        return app

    async def caller(self, request: web.Request) -> Principal:
        return await self._authenticator.authenticate(request.headers.get("Authorization"))

    async def constant(self, _request: web.Request) -> web.Response:
        """What the client can ask at most: the server does next to nothing."""
        return web.Response(body=b"{}")

    async def show(self, request: web.Request) -> web.Response:
        principal = await self.caller(request)
        found = await self._store.load(KIND, request.match_info["id"])
        if found is None or not _owns(principal, state := json.loads(found.state)):
            raise web.HTTPNotFound
        return web.json_response({**{name: state[name] for name in SHOWN}, "version": found.version})

    async def stored(self, request: web.Request) -> web.Response:
        """The bytes as they lie in the store: not even the owner is looked at."""
        await self.caller(request)
        found = await self._store.load(KIND, request.match_info["id"])
        if found is None:
            raise web.HTTPNotFound
        return web.Response(body=found.state, content_type="application/json")

    async def index(self, request: web.Request) -> web.Response:
        principal = await self.caller(request)
        equal = {"owner.issuer": principal.issuer, "owner.subject": principal.subject}
        page = await self._store.find(
            KIND, Query(equal=equal, order_by="created_at", limit=20, offset=int(request.query["offset"]), is_counted=False)
        )  # fmt: skip
        states = [json.loads(found.state) for found in page.states]
        return web.json_response({"content": [{name: state[name] for name in SHOWN} for state in states]})

    async def create(self, request: web.Request) -> web.Response:
        """Write what the gateway writes: template, inputs, state and message; nothing is planned or checked."""
        principal = await self.caller(request)
        body = await request.json()
        now, id, message = self._clock.now(), str(uuid.uuid4()), str(uuid.uuid4())
        text, inputs = body["template"].encode(), json.dumps(body["parameters"]).encode()
        state = {
            **_EMPTY, "id": id, "owner": {"issuer": principal.issuer, "subject": principal.subject}, "created_at": now.isoformat(),
            "group": {"issuer": principal.issuer, "path": body["userGroup"]},
        }  # fmt: skip
        index = {
            "owner.issuer": principal.issuer, "owner.subject": principal.subject, "created_at": now.isoformat(), "status": "CREATE_IN_PROGRESS",
            "group.path": body["userGroup"],
        }  # fmt: skip
        sealed = Sealed(message, "gateway.deployment.requested.v1", id, f"deployment/{id}", json.dumps(body).encode())
        await asyncio.gather(*(self._store.put_blob(hashlib.sha256(blob).hexdigest(), blob) for blob in (text, inputs)))
        await self._store.save(
            KIND, id, version=0, state=json.dumps(state).encode(), index=index, due_at=None, outbox=(sealed,), message_id=message, now=now
        )  # fmt: skip
        return web.json_response({**{name: state[name] for name in SHOWN}, "version": 1}, status=201)

    async def events(self, request: web.Request) -> web.StreamResponse:
        await self.caller(request)
        response, told = web.StreamResponse(headers={"Content-Type": "text/event-stream"}), 0
        await response.prepare(request)
        while True:
            rung = self._rung
            while told < self._number:
                told += 1
                await response.write(EVENT % (told, told))
            await rung.wait()

    async def ring(self, request: web.Request) -> web.Response:
        await self.caller(request)
        rung, self._rung = self._rung, asyncio.Event()
        self._number += 1
        rung.set()
        return web.Response(body=b"{}")


_EMPTY: dict[str, Any] = json.loads(Operation(id="").model_dump_json())


def _owns(principal: Principal, state: dict[str, Any]) -> bool:
    owner = state["owner"]
    return bool(owner["issuer"] == principal.issuer and owner["subject"] == principal.subject)


async def serve(port: int, folder: Path, issuer: str) -> None:
    """Serve until SIGTERM; say on standard output when it begins."""
    store, http, stop = SqliteStore(folder / "gateway.db"), IssuerHttp(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    trusted = TrustedIssuer(issuer=issuer, audiences=(AUDIENCE,), allow_http=True)
    authenticator = Authenticator((trusted,), SystemClock(), http)
    await store.start()
    runner = web.AppRunner(
        Bare(store, authenticator).app(), access_log=None, handle_signals=False, shutdown_timeout=0.1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("serving", datetime.now().astimezone(), flush=True)
    await stop.wait()
    await runner.cleanup()
    await authenticator.close()
    await http.close()
    await store.stop()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
