"""Write libs/client/indaco_client/sync_client.py from the asynchronous client: the same methods, for programs without a loop.

Run by `make docs`; `--check` only says whether it is up to date.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent / "libs" / "client" / "indaco_client"
TARGET = CLIENT / "sync_client.py"
PARTS = (
    ("deployments", "Deployments"),
    ("keys", "Keys"),
    ("federation", "Federation"),
    ("subscriptions", "Subscriptions"),
)
HEAD = '''"""The client for programs without an event loop: the methods of :class:`~indaco_client.Client`, each until its answer is there.

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
'''
CLASS = '''

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
'''


def written() -> str:
    """Return the module's text, formatted."""
    catalogue = "\n".join(_methods("catalogue", "Catalogue"))
    methods = "\n".join(method for module, name in PARTS for method in _methods(module, name))
    return _formatted(f"{HEAD}\n{catalogue}{CLASS}\n{methods}")


def _methods(module: str, name: str) -> Iterator[str]:
    tree = ast.parse((CLIENT / f"{module}.py").read_text())
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    for node in found.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield _method(node)


def _method(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    assert node.returns is not None
    returns = ast.unparse(node.returns)
    call = f"self._of.{node.name}({', '.join(_passed(node.args))})"
    if returns.startswith("AsyncIterator"):
        returns, body = returns.removeprefix("Async"), f"return self._loop.iterate({call})"
    else:
        body = f"{'return ' if returns != 'None' else ''}self._loop.run({call})"
    told = ast.get_docstring(node)
    lines = [f"    def {node.name}({ast.unparse(node.args)}) -> {returns}:"]
    if told:
        head, *rest = told.splitlines()
        lines += [f'        """{head}', *(f"        {line}".rstrip() for line in rest)]
        lines[-1] += '"""' if not rest else ""
        lines += ['        """'] if rest else []
    return "\n".join([*lines, f"        {body}", ""])


def _passed(arguments: ast.arguments) -> Iterator[str]:
    yield from (each.arg for each in arguments.args[1:])
    yield from (f"{each.arg}={each.arg}" for each in arguments.kwonlyargs)
    if arguments.kwarg:
        yield f"**{arguments.kwarg.arg}"


def _formatted(text: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(
            None if TARGET.read_text() == written() else f"{TARGET.name} is not what scripts/sync_client.py writes"
        )
    TARGET.write_text(written())
