"""What tosca-parser makes of templates; a program of its own, because that library keeps its state in the process.

Reads {"files": [path...], "imports": {URL: path}, "seconds": for one file} from standard input and writes for each file a
line of JSON: its name, whether it is accepted, and if so its inputs, its nodes with their types, and its edges as
[node, requirement, target]. It reaches no network: all that it may import is named.
"""

import json
import logging
import signal
import sys
from collections.abc import Iterator, Mapping
from types import FrameType

from toscaparser.nodetemplate import NodeTemplate
from toscaparser.tosca_template import ToscaTemplate


def main() -> None:
    sys.addaudithook(_offline)
    signal.signal(signal.SIGALRM, _out_of_time)
    logging.disable()
    order = json.load(sys.stdin)
    for file in order["files"]:
        verdict = _verdict(file, order["imports"], order["seconds"])
        print(json.dumps({"file": file, **verdict}), flush=True)


def _verdict(file: str, imports: Mapping[str, str], seconds: int) -> dict[str, object]:
    signal.alarm(seconds)  # some templates never end
    try:
        template = ToscaTemplate(file, local_defs=imports)
        nodes = template.topology_template.nodetemplates
        return {
            "accepted": True,
            "inputs": [declared.name for declared in template.topology_template.inputs],
            "nodes": {node.name: node.type for node in nodes},
            "edges": sorted(edge for node in nodes for edge in _edges(node, {node.name for node in nodes})),
        }
    except Exception as error:  # noqa: BLE001 - it raises anything: AttributeError, KeyError, RecursionError
        return {"accepted": False, "why": type(error).__name__}
    finally:
        signal.alarm(0)


def _edges(node: NodeTemplate, names: set[str]) -> Iterator[list[str]]:
    for requirement in node.requirements or []:
        for name, content in requirement.items():
            target = content.get("node") if isinstance(content, dict) else content
            if target in names:
                yield [node.name, name, target]


def _offline(event: str, _arguments: tuple[object, ...]) -> None:
    if event.startswith("socket."):
        raise PermissionError("no template may reach the network")


def _out_of_time(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError


if __name__ == "__main__":
    main()
