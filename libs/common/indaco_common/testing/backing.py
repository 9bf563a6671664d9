"""The backing services of a federation under test: none (embedded), or its own corner of real servers."""

import json
import os
import secrets as random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from pymongo import AsyncMongoClient

from indaco_common.errors import Unavailable
from indaco_common.secrets import setup

REPOSITORY = Path(__file__).resolve().parents[4]
NEEDED = (
    "INDACO_TEST_AMQP",
    "INDACO_TEST_AMQP_MANAGEMENT",
    "INDACO_TEST_MONGODB",
    "INDACO_TEST_VAULT_ADDR",
    "INDACO_TEST_VAULT_TOKEN",
)


def missing_servers(store: str = "mongodb") -> list[str]:
    """Return the variables of the environment that name real servers and are not set; with *store* sqlite, MongoDB is not needed."""
    needed = NEEDED if store == "mongodb" else [name for name in NEEDED if name != "INDACO_TEST_MONGODB"]
    return [name for name in needed if not os.environ.get(name)]


@dataclass(slots=True)
class RealBacking:
    """A virtual host with least-privilege users, databases and AppRoles of its own on real servers; removed at the end."""

    folder: Path
    store: str = "mongodb"  # or sqlite
    mongo_driver: str = "motor"
    name: str = field(default_factory=lambda: f"indaco-{random.token_hex(4)}")
    _passwords: dict[str, str] = field(default_factory=dict)

    async def start(self) -> None:
        """Raises: Unavailable, if a server is not named or refuses."""
        if missing := missing_servers(self.store):
            raise Unavailable(f"not set: {', '.join(missing)}; see deploy/local/all.sh")
        await self._make_broker()
        roles = await setup.setup(os.environ["INDACO_TEST_VAULT_ADDR"], os.environ["INDACO_TEST_VAULT_TOKEN"])
        file = self.folder / "approles.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({s: {"role_id": r.role_id, "secret_id": r.secret_id} for s, r in roles.items()}))

    async def stop(self) -> None:
        if missing_servers(self.store):
            return  # nothing was made
        async with aiohttp.ClientSession() as http:
            for path in (f"vhosts/{self.name}", *(f"users/{self._user(service)}" for service in self._passwords)):
                async with http.delete(self._management(path)) as answer:
                    await answer.read()
        if self.store != "mongodb":
            return
        client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(os.environ["INDACO_TEST_MONGODB"])
        for database in await client.list_database_names():
            if database.startswith(self._database):
                await client.drop_database(database)
        await client.close()

    def environment(self, service: str) -> dict[str, str]:
        """Return the settings of one service's process."""
        broker = urlsplit(os.environ["INDACO_TEST_AMQP"])
        user = (
            f"{self._user(service)}:{self._passwords[service]}"
            if service in self._passwords
            else broker.netloc.rpartition("@")[0]
        )
        store = (
            f"{os.environ['INDACO_TEST_MONGODB'].rstrip('/')}/{self._database}"
            if self.store == "mongodb"
            else "sqlite:"
        )
        return {
            "INDACO_BUS": f"amqp://{user}@{broker.hostname}:{broker.port}/{self.name}",
            "INDACO_STORE": store,
            "INDACO_MONGO_DRIVER": self.mongo_driver,
            "INDACO_SECRETS": f"vault+{os.environ['INDACO_TEST_VAULT_ADDR']}",
            "INDACO_VAULT_APPROLE_FILE": str(self.folder / "approles.json"),
        }

    def admin_environment(self) -> dict[str, str]:
        """Return the settings of an administrator's process."""
        return self.environment("administrator")

    @property
    def _database(self) -> str:
        return self.name.replace("-", "_")

    def _user(self, service: str) -> str:
        return f"{self.name}-{service}"

    def _management(self, path: str) -> str:
        return f"{os.environ['INDACO_TEST_AMQP_MANAGEMENT'].rstrip('/')}/api/{path}"

    async def _make_broker(self) -> None:
        """Import the project's own definitions, under names of this run."""
        passwords = self.folder / "rabbitmq"
        script = REPOSITORY / "deploy" / "rabbitmq" / "make_definitions.py"
        command = [sys.executable, str(script), "--vhost", self.name, "--passwords", str(passwords)]
        made = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: ASYNC221, S603
        definitions = json.loads(made.stdout)
        services = [user["name"] for user in definitions["users"]]
        for part in ("users", "permissions", "topic_permissions"):
            for entry in definitions[part]:
                key = "name" if part == "users" else "user"
                entry[key] = self._user(entry[key])
        self._passwords = {service: _password(passwords, service) for service in services}
        async with aiohttp.ClientSession() as http:
            async with http.put(self._management(f"vhosts/{self.name}")) as answer:
                answer.raise_for_status()
            async with http.post(self._management("definitions"), json=definitions) as answer:
                if answer.status >= 300:  # noqa: PLR2004
                    raise Unavailable(f"the broker refused the definitions: {await answer.text()}")
            admin = urlsplit(os.environ["INDACO_TEST_AMQP"]).username
            rights = {"configure": ".*", "write": ".*", "read": ".*"}
            async with http.put(self._management(f"permissions/{self.name}/{admin}"), json=rights) as answer:
                answer.raise_for_status()


def _password(folder: Path, service: str) -> str:
    return next(file for file in folder.iterdir() if file.stem == service).read_text().strip()
