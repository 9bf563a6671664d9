"""Fuzz the TOSCA library: parse, plan with no inputs, render; anything but a plan or a TemplateError is a finding.

    python scripts/fuzz_tosca.py [--seconds 600] [--corpus FOLDER]

Seeds are the templates of ``examples`` and ``catalogue``, and the public ones if they are there (``INDACO_CORPUS``). It stops
at the first finding, writes the input that leads to it under ``build/fuzz`` and exits with 1; with 2 where atheris is not
installed (it has no build for this Python or this system). The inputs that reached new code stay under ``build/fuzz/corpus``.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "fuzz"
PUBLIC = Path(os.environ.get("INDACO_CORPUS") or ROOT.parent / "shared" / "corpus") / "tosca"
LARGEST_SEED = 4 * 1024  # bytes: small inputs are mutated more often in the same time
LARGEST = 16 * 1024  # bytes
LONGEST_S = 20  # of one input, before it counts as a finding; on a busy machine all is slower
MEMORY_MB = 1024
SUMMARY = re.compile(r"#(\d+)\s+(?:DONE|pulse|NEW|REDUCE|RELOAD|INITED)\s+cov: (\d+) ft: (\d+)")
WRITTEN = re.compile(r".*Test unit written to (\S+)")
WORDS = (
    "tosca_definitions_version", "tosca_simple_yaml_1_3", "topology_template", "node_templates", "inputs", "outputs",
    "tosca.nodes.indigo.Compute", "tosca.nodes.SoftwareComponent", "tosca.nodes.BlockStorage", "tosca.nodes.network.Port",
    "get_input", "get_property", "get_attribute", "concat", "token", "join", "get_nodes_of_type", "SELF", "HOST", "properties",
    "capabilities", "requirements", "host", "local_storage", "endpoint", "ports", "scalable", "count", "mem_size", "default", "type",
    "constraints", "in_range", "valid_values", "pattern", "entry_schema", "derived_from", "node_types", "data_types", "policies",
    "metadata", "relationship", "<<: *", "&a ", "!!str ", "tosca.policies.indigo.SlaPlacement",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz parse, plan and render of the TOSCA library")
    parser.add_argument("--seconds", type=int, default=600, help="how long (default: 600)")
    parser.add_argument(
        "--corpus", type=Path, default=FOLDER / "corpus", help="where inputs that reach new code are kept"
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    known, rest = parser.parse_known_args()
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: it has builds for some versions of Python on Linux only. Nothing was fuzzed.")
        return 2
    return _work(rest) if known.worker else _watch(known.seconds, known.corpus)


def _watch(seconds: int, corpus: Path) -> int:
    """Run the fuzzer in a process of its own, which libFuzzer ends as it likes, and say what came of it."""
    seeds, findings, words = FOLDER / "seeds", FOLDER / "findings", FOLDER / "words.txt"
    shutil.rmtree(seeds, ignore_errors=True)
    for folder in (seeds, findings, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(_seeds()):
        (seeds / f"{number:04}.yaml").write_bytes(seed.read_bytes())
    words.write_text("".join(f'"{word}"\n' for word in WORDS))
    command = [
        sys.executable, __file__, "--worker", str(corpus), str(seeds), f"-max_total_time={seconds}", f"-timeout={LONGEST_S}",
        f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={findings}/", f"-dict={words}", f"-max_len={LARGEST}", "-print_final_stats=1",
    ]  # fmt: skip
    executions, coverage, features, tail, finding = 0, 0, 0, [], ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as fuzzer:
        for line in fuzzer.stdout or ():
            tail = [*tail[-60:], line]
            if found := SUMMARY.match(line):
                executions, coverage, features = (int(number) for number in found.groups())
            if written := WRITTEN.match(line):
                finding = written[1]
    print(
        f"{executions} executions, coverage of {coverage} edges, {features} features, from {len(list(seeds.iterdir()))} seeds"
    )
    if fuzzer.returncode == 0:
        print("nothing was found")
        return 0
    print("".join(tail))
    print(f"found: {finding}" if finding else "the fuzzer ended with an error")
    return 1


def _seeds() -> Iterator[Path]:
    for folder in (ROOT / "examples", ROOT / "catalogue", PUBLIC):
        for path in sorted(folder.rglob("*.y*ml")):
            if path.stat().st_size <= LARGEST_SEED:
                yield path


def _work(arguments: list[str]) -> int:
    """Fuzz in this process; does not return."""
    import atheris  # noqa: PLC0415

    with atheris.instrument_imports(include=["indaco_tosca"]):
        from indaco_tosca import TemplateError, outputs, parse, plan  # noqa: PLC0415
        from indaco_tosca.render import render  # noqa: PLC0415

    def once(data: bytes) -> None:
        try:
            template = parse(data)
            text = render(template)
        except TemplateError:
            return
        if render(parse(text)) != text:  # a refusal of our own text is a finding too
            raise AssertionError("the canonical text is not stable")
        try:
            made = plan(template, {})
            outputs(made, {})
            parse(render(template, inputs=made.inputs))
        except TemplateError:
            return

    atheris.Setup([sys.argv[0], *arguments], once)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
