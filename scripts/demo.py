"""Show the main job on this machine: sign in, deploy, fail over, be refused, delete, account. Facts go to build/demo.json.

Machines are real containers where a Docker Engine has the image indaco/vm:12; otherwise they are simulated, and the demo says so.
"""

import argparse
import asyncio
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.rule import Rule

from indaco_client import Client, DeploymentFailed
from indaco_client.login import sign_in
from indaco_common import telemetry
from indaco_common.errors import IndacoError
from indaco_common.launcher.embedded import has_docker
from indaco_common.settings import Settings
from indaco_common.simulation import break_site
from indaco_common.testing.backing import RealBacking
from indaco_common.testing.federation import Federation

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = (ROOT / "examples" / "templates" / "virtual-machine.yaml").read_text()
DEMO = ROOT / "services" / "sla" / "indaco_sla" / "demo.yaml"
DEBIAN = {"os_distribution": "debian", "os_version": "12", "num_cpus": 1, "mem_size": "512 MB"}
UBUNTU = {"os_distribution": "ubuntu", "os_version": "22.04", "num_cpus": 2, "mem_size": "4 GB"}
QUICK = {"POLL": "0.2", "POLL_MAX": "1", "CLAIM": "12", "WATCH": "5"}
console = Console(highlight=False, soft_wrap=True)


class Demo:
    def __init__(self, federation: Federation, *, real_machine: bool) -> None:
        self.federation, self.real_machine = federation, real_machine
        self.facts: dict[str, Any] = {"deployments": [], "records": [], "urls": {}}

    async def run(self) -> None:
        """Each step is a real call of a user; nothing is shown that the system did not say."""
        step("Sign in as ada, of the group cms, by the device flow (the demo plays the browser)")
        token = await self.sign_in()
        async with Client(self.federation.url, token) as client:
            key = await client.create_key("default")
            console.print(f"  SSH key {key['fingerprint']}: its private half is in the vault")
            first = await self.deploy(client)
            await self.fail_over(client)
            await self.refused(client)
            await self.delete(client, first)
        await self.account(first)

    async def sign_in(self) -> str:
        loop, issuer = asyncio.get_running_loop(), self.federation.issuer_url
        browsers: list[asyncio.Task[None]] = []

        def show(address: str, code: str) -> None:
            console.print(f"  {address}  (code {code})")
            browsers.append(loop.create_task(approve(address, "ada", "ada-password")))

        session = await sign_in(issuer, self.federation.url, show)
        await asyncio.gather(*browsers)
        return str(session["access_token"])

    async def deploy(self, client: Client) -> str:
        what = "a real machine (a container of the local Docker Engine)" if self.real_machine else "a simulated machine"
        step(f"(a) Deploy {what} from a TOSCA template")
        made = await client.create(TEMPLATE, DEBIAN if self.real_machine else UBUNTU, group="cms")
        done = await client.wait(made["id"], timeout_s=60)
        explain(done)
        outputs = await client.outputs(done["id"])
        console.print_json(data=outputs)
        if self.real_machine:
            self.facts["ssh"] = await self.command_on(client, outputs)
            console.print(f"  over SSH, on the machine: {self.facts['ssh']}")
        await self.note(client, "virtual machine", done["id"])
        return str(done["id"])

    async def command_on(self, client: Client, outputs: dict[str, Any]) -> str:
        """Run a command on the machine with the key that the vault keeps."""
        where = re.fullmatch(r"ssh://(?:[^@]+@)?([^:]+):(\d+)", outputs["ssh_endpoint"])
        assert where is not None, outputs["ssh_endpoint"]
        with tempfile.TemporaryDirectory() as folder:
            identity = Path(folder) / "id"
            identity.touch(mode=0o600)
            identity.write_text(await client.reveal_key("default"))
            process = await asyncio.create_subprocess_exec(
                "ssh", "-i", identity, "-p", where[2], "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", f"{outputs['node_creds']['user']}@{where[1]}",
                "echo hello from $(hostname), $(. /etc/os-release; echo $PRETTY_NAME), user $(id -un)",
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            out, err = await process.communicate()
        if process.returncode:
            raise SystemExit(f"ssh failed: {err.decode()}")
        return out.decode().strip()

    async def fail_over(self, client: Client) -> None:
        step("(b) The best site breaks; the next one takes over (simulated sites)")
        best = self.federation.sites / "CLOUD-CNAF-T1"
        break_site(best, boot_fail_rate=1.0)
        made = await client.create(TEMPLATE, UBUNTU, group="cms")
        done = await client.wait(made["id"], timeout_s=60)
        break_site(best)
        for attempt in done["attempts"]:
            console.print(
                f"  attempt {attempt['attempt']}: {attempt['provider']}: {attempt['outcome']} {attempt['reason']}"
            )
        explain(done)
        await self.note(client, "fail-over", done["id"])

    async def refused(self, client: Client) -> None:
        step("(c) More than any agreement grants: refused, with the shortfall per resource")
        made = await client.create(
            TEMPLATE.replace("count: 1", "count: 30"), {**UBUNTU, "num_cpus": 8, "mem_size": "16 GB"}, group="cms"
        )
        try:
            await client.wait(made["id"], timeout_s=60)
        except DeploymentFailed:
            refused = await client.deployment(made["id"])
            console.print(f"  {refused['status']}")
            for reason in refused["refused"]:
                console.print(f"  {reason['provider']}: {reason['code']}: {reason['detail']}")
            await self.note(client, "refused for quota", made["id"])
            return
        raise SystemExit("the deployment was to be refused and was not")

    async def delete(self, client: Client, id: str) -> None:
        step("(d) Delete the first one")
        await client.delete(id)
        await client.wait(id, timeout_s=60, until=frozenset({"DELETE_COMPLETE"}))
        await self.note(client, "virtual machine", id)
        for line in await client.timeline(id):
            console.print(f"  {line['at'][11:23]}  {line['status']:<19} {line['title']}  [dim]{line['detail'][:100]}")

    async def account(self, id: str) -> None:
        step("(e) The record for APEL, and where to look next")
        text = await self.record(id)
        file = ROOT / "build" / "demo.apel"
        file.write_text(text)
        self.facts["records"] = [str(file.relative_to(ROOT))]
        console.print(text, markup=False)
        ports = self.federation.ports
        self.facts["urls"] = {"gateway": self.federation.url, "issuer": self.federation.issuer_url}
        self.facts["urls"] |= {
            f"{name} metrics": f"http://127.0.0.1:{ports[name]}/metrics" for name in ("sla", "accounting")
        }
        console.print("  run it yourself:        make up, then: indaco login; indaco deployment create … --wait")
        console.print("  the facts of this demo: build/demo.json")

    async def record(self, id: str) -> str:
        """Return the closed record of the deployment's machine, as accounting would send it to APEL."""
        url, end = f"http://127.0.0.1:{self.federation.ports['accounting']}", time.monotonic() + 20
        async with aiohttp.ClientSession() as http:
            while True:
                async with http.get(f"{url}/records", params={"deployment": id}) as answer:
                    records = (await answer.json())["records"]
                if records and all(record["status"] == "closed" for record in records):
                    break
                if time.monotonic() > end:
                    raise SystemExit(f"accounting has no closed record of {id}: {records}")
                await asyncio.sleep(0.2)
            async with http.get(f"{url}/records/{records[0]['id']}/apel") as answer:
                answer.raise_for_status()
                return await answer.text()

    async def note(self, client: Client, name: str, id: str) -> None:
        """Add to the facts what the system says of a deployment, in place of what it said before."""
        shown = await client.deployment(id)
        facts = {
            "id": id, "name": name, "status": shown["status"], "provider": shown.get("provider"),
            "simulated": shown["simulated"], "reasons": {name: shown[name] for name in ("ranked", "refused")}, "outputs": await client.outputs(id),
            "attempts": shown["attempts"], "timeline": await client.timeline(id),
        }  # fmt: skip
        before = next((d for d in self.facts["deployments"] if d["id"] == id), None)
        if before is None:
            self.facts["deployments"].append(facts)
        else:
            before.update(facts, outputs=before["outputs"])


def step(title: str) -> None:
    console.print(Rule(title, align="left", style="blue"))


def explain(shown: dict[str, Any]) -> None:
    note = " (simulated)" if shown["simulated"] else ""
    console.print(f"  {shown['status']} at [bold]{shown['provider']}[/bold]{note}")
    for ranked in shown["ranked"]:
        terms = ", ".join(f"{name} {value:.2f}" for name, value in ranked["terms"].items())
        console.print(f"    ranked  {ranked['provider']:<20} {ranked['score']:.3f}  ({terms})")
    for reason in shown["refused"]:
        console.print(f"    not     {reason['provider']:<20} {reason['code']}: {reason['detail']}")


async def approve(address: str, user: str, password: str) -> None:
    """Do what a person does in the browser: log in, approve the device."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as http:
        async with http.get(address) as answer:
            page, url = await answer.text(), answer.url
        for _ in range(4):
            action = re.search(r'action="([^"]*)"', page)
            if action is None:
                return
            form = {
                name: html.unescape(value)
                for name, value in re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page)
            }
            form |= {"username": user, "password": password}
            if button := re.search(r'<button[^>]*name="([^"]+)"[^>]*value="([^"]+)"', page):
                form[button[1]] = button[2]
            async with http.post(url.join(type(url)(html.unescape(action[1]))), data=form) as answer:
                page, url = await answer.text(), answer.url


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--backends", choices=["embedded", "real"], default="embedded", help="what to run on (default: %(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with data and logs")
    arguments = parser.parse_args()
    telemetry.set_up_logging(Settings(log_level="warning", log_format="console"))
    (ROOT / "build").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="indaco-demo-"))
    real_machine = await has_docker() and shutil.which("ssh") is not None
    settings = {f"INDACO_ORCHESTRATOR_{name}_S": value for name, value in QUICK.items()}
    settings["INDACO_DOCKER_STATE"] = "active" if real_machine else "maintenance"
    federation = Federation(
        folder, DEMO.read_text(), {"ada": ("cms",)}, settings=settings,
        backing=RealBacking(folder) if arguments.backends == "real" else None,
    )  # fmt: skip
    begin = time.monotonic()
    step(
        f"Start the federation: {'five processes on RabbitMQ, MongoDB and OpenBao' if federation.backing else 'one process, nothing else'}"
    )
    demo = Demo(federation, real_machine=real_machine)
    try:
        await federation.start()
        console.print(f"  ready after {time.monotonic() - begin:.1f} s: {federation.url}")
        await demo.run()
    except (IndacoError, OSError) as error:
        console.print(f"[red]{error}[/red]\nlogs: {folder}")
        arguments.keep = True
        return 1
    finally:
        await federation.stop()
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    seconds = round(time.monotonic() - begin, 1)
    (ROOT / "build" / "demo.json").write_text(
        json.dumps({"seconds": seconds, "backends": arguments.backends, **demo.facts}, indent=1)
    )
    step(f"Done in {seconds} s")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(asyncio.run(main()))
