"""A git repository, by the ``git`` program: fetched without history into a bare clone, read from there, never checked out."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from indaco_common.errors import Unavailable
from indaco_common.web import excerpt

TIME_LIMIT_S = 60.0  # of one call
PATIENCE_S = 5.0  # after its end
MAX_OUTPUT = 64 * 1024 * 1024
MAX_COMPLAINT = 64 * 1024
KEPT = "refs/indaco/kept"
# What git needs of our environment, which holds secrets: where programs, keys and certificates are, and the way out.
ENVIRONMENT = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "GIT_SSL_CAINFO", "GIT_SSH_COMMAND", "GIT_CONFIG_GLOBAL", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY",
    "HTTPS_PROXY", "NO_PROXY",
})  # fmt: skip
_ENTRY = re.compile(rb"100(?:644|755) blob ([0-9a-f]{40,64}) +([0-9]+)\t(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Blob:
    """A file in a commit; *size* in bytes."""

    id: str
    size: int


class GitRepository:
    """One branch, tag or commit of a repository, and our bare clone of it."""

    def __init__(self, url: str, ref: str, clone: Path) -> None:
        self.url, self.ref = url, ref
        self._clone = clone

    async def fetch(self) -> str:
        """Return the commit that *ref* is now. Raises: Unavailable."""
        if not (self._clone / "HEAD").exists():
            await asyncio.to_thread(self._clone.mkdir, parents=True, exist_ok=True)
            await self._git("init", "--quiet", "--bare", "--template=", ".")
        await self._git(
            "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
            "--end-of-options", self.url, f"+{self.ref}:{KEPT}",
        )  # fmt: skip
        return await self.kept()

    async def kept(self) -> str:
        """Return the commit that was fetched last, in this process or before it, or nothing."""
        if not (self._clone / "HEAD").exists():
            return ""
        found = await self._git("for-each-ref", "--format=%(objectname)", KEPT)
        return found.decode().strip()

    async def tree(self, commit: str, folder: str) -> dict[str, Blob]:
        """Return the plain files below *folder*; links and submodules are none. Raises: Unavailable."""
        listing = await self._git("ls-tree", "-r", "-z", "--long", f"{commit}:{folder}")
        found = (_ENTRY.fullmatch(line) for line in listing.split(b"\0"))
        return {match[3].decode(errors="replace"): Blob(match[1].decode(), int(match[2])) for match in found if match}

    async def contents(self, blobs: Mapping[str, Blob]) -> dict[str, bytes]:
        """Return the content of each file. Raises: Unavailable."""
        wanted = "".join(f"{blob.id}\n" for blob in blobs.values())
        output = await self._git("cat-file", "--batch", text=wanted.encode())
        found, at = {}, 0
        for path, blob in blobs.items():
            begin = output.index(b"\n", at) + 1  # behind the line "<id> blob <size>"
            at = begin + blob.size + 1
            found[path] = output[begin : at - 1]
        return found

    async def _git(self, *arguments: str, text: bytes = b"") -> bytes:
        """Run git in the clone; it asks nobody anything, and ends within the limit with all that it started."""
        command = ("git", "-c", "gc.autoDetach=false", "-C", str(self._clone), *arguments)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, env=_environment(self.url), start_new_session=True,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable(f"The catalogue needs the program git: {error.strerror}") from error
        try:
            async with asyncio.timeout(TIME_LIMIT_S):
                output, complaint, _ = await asyncio.gather(
                    _read(process.stdout, MAX_OUTPUT), _read(process.stderr, MAX_COMPLAINT), _write(process.stdin, text)
                )
                code = await process.wait()
        except TimeoutError:
            raise Unavailable(f"git {arguments[0]} of {self.url} took more than {TIME_LIMIT_S:g} s") from None
        finally:
            if process.returncode is None:
                await _end(process)
        if code:
            said = excerpt(" ".join(complaint.decode(errors="replace").split()), 300)
            raise Unavailable(f"git {arguments[0]} of {self.url} failed: {said or f'exit code {code}'}")
        return output


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill git with its helpers; what has left its session may keep the pipes open, and is not waited for."""
    os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()


def _environment(url: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name in ENVIRONMENT}
    return {
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=10", **own, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": url.partition(":")[0], "LC_ALL": "C",
    }  # fmt: skip


async def _read(stream: asyncio.StreamReader | None, limit: int) -> bytes:
    """Return all of a stream. Raises: Unavailable, if there is more than *limit* bytes."""
    assert stream is not None
    try:
        await stream.readexactly(limit + 1)
    except asyncio.IncompleteReadError as end:
        return end.partial
    raise Unavailable(f"git said more than {limit} bytes")


async def _write(stream: asyncio.StreamWriter | None, text: bytes) -> None:
    assert stream is not None
    with contextlib.suppress(ConnectionError):  # git's own complaint says more
        stream.write(text)
        await stream.drain()
        stream.close()
