"""Write docs/reference/settings.md and docs/reference/cli.md from the code; run by `make docs`."""

import subprocess
import sys
from pathlib import Path

from pydantic_settings import BaseSettings

from indaco_common.launcher.specs import all_specs
from indaco_common.settings import Settings

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
COMMANDS = [
    [], ["run"], ["login"], ["deployment"], ["deployment", "create"], ["deployment", "list"], ["deployment", "delete"], ["key"],
    ["template", "check"], ["template", "plan"], ["template", "form"], ["template", "diff"], ["catalogue", "list"], ["catalogue", "show"], ["catalogue", "template"],
    ["catalogue", "validate"], ["topology"], ["dead"], ["replay"], ["trace"], ["doctor"], ["imports"], ["imports", "refresh"],
]  # fmt: skip


def settings_page() -> str:
    """Return the table of every setting: name, default, meaning."""
    parts = ["# Settings\n\nFrom the environment. Made from the code by `scripts/reference.py`.\n"]
    for title, model in [("All services", Settings), *((spec.name, spec.settings) for spec in all_specs())]:
        parts.append(f"## {title}\n\n| setting | default | meaning |\n| --- | --- | --- |")
        parts += rows(model)
        parts.append("")
    return "\n".join(parts)


def rows(model: type[BaseSettings]) -> list[str]:
    prefix = model.model_config.get("env_prefix", "")
    found = []
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or "").split()).replace("``", "`").replace("|", "\\|")
        default = "" if field.default in (None, "") else f"`{field.default}`"
        found.append(f"| `{prefix}{name.upper()}` | {default} | {meaning} |")
    return found


def cli_page() -> str:
    """Return what the commands say of themselves."""
    parts = ["# Command line\n\nWhat `--help` prints. Made by `scripts/reference.py`.\n"]
    for words in COMMANDS:
        command = [sys.executable, "-m", "indaco_client.cli", *words, "--help"]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, env={"COLUMNS": "100"}).stdout
        shown = shown.replace("python -m indaco_client.cli", "indaco")
        parts.append(f"## indaco {' '.join(words)}\n\n```text\n{shown.rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "settings.md").write_text(settings_page())
    (FOLDER / "cli.md").write_text(cli_page())
