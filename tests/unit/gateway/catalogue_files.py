"""Folders of cards, and git repositories of them, for tests of the catalogue."""

import subprocess
from pathlib import Path

TEMPLATE = """tosca_definitions_version: tosca_simple_yaml_1_3
imports: [indigo.yaml]
topology_template:
  inputs:
    cpus: {type: integer, default: 2, constraints: [in_range: [1, 8]]}
  node_templates:
    server:
      type: tosca.nodes.indigo.Compute
      capabilities: {host: {properties: {num_cpus: {get_input: cpus}}}}
"""
TEST = "cases: [{name: two, expect: {nodes: {server: {cpus: 2}}}}]\n"


def write(
    root: Path, name: str = "machine", *, versions: tuple[str, ...] = ("1.0.0",), card: str = "", **changes: str
) -> None:
    """Write a card; *card* is added to its card.yaml, *changes* replace ``template`` or ``test``."""
    folder = root / name
    for version in versions:
        (folder / version).mkdir(parents=True, exist_ok=True)
        (folder / version / "template.yaml").write_text(changes.get("template", TEMPLATE) + f"# {version}\n")
        (folder / version / "test.yaml").write_text(changes.get("test", TEST))
    (folder / "guide.md").write_text(f"# {name}\n")
    (folder / "card.yaml").write_text(f"title: The {name}\ndescription: d\n{card}\n")


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody, whatever the environment says."""
    known = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    who = ("-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main")
    command = ["git", *who, "-C", str(folder), *arguments]
    return subprocess.run(command, env=known, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, message: str = "change") -> str:
    """Commit all there is, and return the commit's id."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")
