"""Commands on template files. They need no server and no sign-in.

What they say is what the gateway would say, except of types that it has from imports: these are not fetched here.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from indaco_tosca import Plan, PlanNode, PortRule, Problem, Template, TemplateError, parse, plan
from indaco_tosca.forms import Form, form
from indaco_tosca.load import MAX_BYTES, load
from indaco_tosca.resources import ANYWHERE

from .errors import Refused
from .inputs import parse_setting, read_map
from .tables import show
from .wire import Json

_PROBLEM = {"file": "file", "line": "line", "level": "level", "code": "code", "where": "path", "what": "what"}
_NODE = {
    "node": "name", "kind": "kind", "count": "count", "vCPU": "vcpus", "memory": "memory", "disk": "disk", "GPU": "gpu",
    "public IP": "public_ip", "ports": "ports", "volumes": "volumes", "image": "image",
}  # fmt: skip
_STEP = {"step": "step", "node": "node", "type": "type", "by": "by", "on": "on"}
_SAME = (
    "name", "type", "count", "memory_bytes", "disk_bytes", "gpus", "gpu_vendor", "gpu_model", "public_ip", "private_ip",
    "instance_type", "dns_name", "level", "is_late",
)  # fmt: skip
_FIELD = {
    "tab": "tab", "input": "name", "type": "type", "default": "default", "allowed": "allowed", "description": "description",
}  # fmt: skip
_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_LENGTHS = ("minLength", "minItems", "minProperties")
_TYPES = {"array": "list", "object": "map", "number": "float"}
_CELL = 40  # characters of a default
_UNITS = (("GiB", 1024**3), ("GB", 1000**3), ("MiB", 1024**2), ("MB", 1000**2))

output_option = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How to print it."
)
_path = click.Path(exists=True, dir_okay=False, path_type=Path)
_file = click.argument("file", type=_path)


@click.group()
def template() -> None:
    """Check templates, and show what they ask for and what they would deploy; nothing is sent anywhere.

    Example: indaco template check examples/templates/*.yaml
    """


@template.command("check")
@click.argument("files", metavar="FILE...", type=_path, nargs=-1, required=True)
@output_option
def check(files: tuple[Path, ...], output: str) -> None:
    """Tell everything that is wrong with templates; exit code 6 if one cannot be deployed.

    A template whose inputs all have defaults is planned with these, too.

    Example: indaco template check my-template.yaml -o json
    """
    found = [_checked(file) for file in files]
    if output == "json":
        show(found, output)
    else:
        _show_problems(row for each in found for row in (*each["errors"], *each["warnings"]))
        for each in found:
            click.echo(f"{click.format_filename(each['file'])}: {'valid' if each['valid'] else 'not valid'}", err=True)
    if not all(each["valid"] for each in found):
        sys.exit(Refused.exit_code)


@template.command("plan")
@_file
@click.option(
    "--set",
    "--input",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="An input; VALUE is read as YAML. May be repeated.",
)
@click.option("-f", "--inputs", type=click.File(), help="A YAML or JSON file with inputs.")
@output_option
def show_plan(file: Path, settings: tuple[str, ...], inputs: Any, output: str) -> None:
    """Show what FILE would deploy: machines, sizes, the order of the steps, and who configures what.

    Secret inputs need no value: they count as given.

    Example: indaco template plan examples/templates/virtual-machine.yaml --set num_cpus=4
    """
    values = read_map(inputs) if inputs else {}
    values |= dict(parse_setting(setting) for setting in settings)
    made = planned(file, values, output)
    summary = summary_of(made)
    if output == "json":
        show(summary | {"warnings": [_row("", "warning", each) for each in made.warnings]}, output)
    else:
        _show_plan(made, summary, str(file))


@template.command("form")
@_file
@click.option("--parameters", type=_path, help="A parameters document, as INDIGO's dashboard keeps beside a template.")
@click.option(
    "--group", "groups", multiple=True, help="A group that you act for; its overrides count. May be repeated."
)
@output_option
def show_form(file: Path, parameters: Path | None, groups: tuple[str, ...], output: str) -> None:
    """Show what FILE asks for: the inputs, as a table or as JSON Schema with hints for a user interface.

    Example: indaco template form examples/templates/virtual-machine.yaml -o json
    """
    parsed = _parsed(file, output)
    made = form(parsed, _parameters(parameters, output) if parameters else None, groups=groups)
    if output == "json":
        show(made.dump(), output)
        return
    show(_field_rows(made), output, _FIELD)
    _show_warnings(
        _row(str(parameters if each.path.startswith("/parameters/") else file), "warning", each)
        for each in made.warnings
    )


def planned(file: Path, values: Mapping[str, Any], output: str) -> Plan:
    """Return the plan of a file; secret inputs that are not given count as given. What is wrong is shown, with exit code 6."""
    parsed = _parsed(file, output)
    try:
        return plan(parsed, values, absent_secrets=_absent_secrets(parsed, values))
    except TemplateError as error:
        _refuse(str(file), error.problems, output)


def summary_of(made: Plan) -> Json:
    """Return what a plan asks for, without what it would put on the machines."""
    return {
        "nodes": [_node(node) for node in made.nodes],
        "steps": _steps(made),
        "totals": {"vcpus" if name == "cpu_milli" else name: amount for name, amount in _totals(made)},
        "placement": _placement(made),
        "absent_secrets": sorted(made.absent_secrets),
    }


def _absent_secrets(parsed: Template, values: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(
        name for name, each in parsed.inputs.items() if each.secret and each.must_be_given and name not in values
    )


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(MAX_BYTES + 1)


def _parsed(file: Path, output: str) -> Template:
    try:
        return parse(_read(file))
    except TemplateError as error:
        _refuse(str(file), error.problems, output)


def _parameters(file: Path, output: str) -> Mapping[str, Any]:
    try:
        content = load(_read(file)).value
    except TemplateError as error:
        _refuse(str(file), error.problems, output)
    if not isinstance(content, dict):
        raise click.UsageError(f"{file}: a map with inputs and tabs is expected")
    return content


def _checked(file: Path) -> Json:
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    try:
        parsed = parse(_read(file))
        errors, warnings = _unplannable(parsed), (*parsed.warnings, *form(parsed).warnings)
    except TemplateError as error:
        errors = error.problems
    return {
        "file": str(file),
        "valid": not errors,
        "errors": [_row(str(file), "error", each) for each in errors],
        "warnings": [_row(str(file), "warning", each) for each in warnings],
    }


def _unplannable(parsed: Template) -> tuple[Problem, ...]:
    """Return why a template cannot be planned, as far as its defaults tell; what they leave open is no problem of it."""
    try:
        plan(parsed, {}, absent_secrets=_absent_secrets(parsed, {}))
    except TemplateError as error:
        return tuple(each for each in error.problems if not each.path.startswith("/inputs/"))
    return ()


def _row(file: str, level: str, problem: Problem) -> Json:
    place = {"file": file, "line": problem.line, "column": problem.column, "path": problem.path}
    return place | {"level": level, "code": problem.code, "message": problem.message, "hint": problem.hint}


def _show_problems(rows: Iterable[Json]) -> None:
    told = [row | {"what": f"{row['message']} ({row['hint']})" if row["hint"] else row["message"]} for row in rows]
    if told:
        show(told, "table", _PROBLEM)


def _refuse(file: str, problems: Iterable[Problem], output: str) -> NoReturn:
    """Print why it does not go on, and end as for a request that the gateway refuses."""
    rows = [_row(file, "error", each) for each in problems]
    if output == "json":
        show({"errors": rows}, output)
    else:
        _show_problems(rows)
    sys.exit(Refused.exit_code)


# ── a plan


def _node(node: PlanNode) -> Json:
    return {key: getattr(node, key) for key in _SAME} | {
        "kind": str(node.kind),
        "vcpus": node.cpu_milli / 1000,
        "image": dict(node.image),
        "ports": [rule._asdict() for rule in node.ports],
        "volumes": [volume._asdict() for volume in node.volumes],
        "software": [
            {"name": each.node, "type": each.type, "by": str(each.by), "level": each.level} for each in node.software
        ],
        "dependencies": list(node.dependencies),
        "secrets": sorted(node.secrets),
    }


def _steps(made: Plan) -> list[Json]:
    """Return what is done, step by step; what is in one step may be done at the same time."""
    steps: dict[int, list[Json]] = {}
    starts: dict[str, int] = {}
    for node in made.nodes:  # dependencies come first
        awaited = [starts.get(name, 0) + 1 for name in node.dependencies] if node.is_late else []
        starts[node.name] = max([node.level, *awaited])
        delay = starts[node.name] - node.level
        steps.setdefault(starts[node.name], []).append(
            {"node": node.name, "type": node.type, "by": "provider", "on": ""}
        )
        for each in node.software:
            part = {"node": each.node, "type": each.type, "by": str(each.by), "on": node.name}
            steps.setdefault(each.level + delay, []).append(part)
    return [{"step": number, "nodes": steps[level]} for number, level in enumerate(sorted(steps), start=1)]


def _totals(made: Plan) -> Iterable[tuple[str, float]]:
    return ((name, amount / 1000 if name == "cpu_milli" else amount) for name, amount in made.totals.items())


def _placement(made: Plan) -> Json | None:
    return made.placement._asdict() if made.placement else None


def _show_plan(made: Plan, summary: Json, file: str) -> None:
    show([_node_row(node) for node in made.nodes], "table", _NODE)
    click.echo()
    show([{"step": step["step"], **part} for step in summary["steps"] for part in step["nodes"]], "table", _STEP)
    click.echo()
    totals = {
        key.removesuffix("_bytes"): size(value) if key.endswith("_bytes") else value
        for key, value in summary["totals"].items()
    }
    wishes = {key: value for key, value in (summary["placement"] or {}).items() if value}
    show({"in all": _words(totals), "placement": _words(wishes) or "no wish"}, "table")
    if made.absent_secrets:
        click.echo(f"counted as given: {', '.join(sorted(made.absent_secrets))}", err=True)
    _show_warnings(_row(file, "warning", each) for each in made.warnings)


def _node_row(node: PlanNode) -> Json:
    image = node.image.get("image") or " ".join(
        filter(None, (node.image.get("distribution"), node.image.get("version")))
    )
    return {
        "name": node.name,
        "kind": str(node.kind),
        "count": node.count,
        "vcpus": node.instance_type or f"{node.cpu_milli / 1000:g}",
        "memory": size(node.memory_bytes),
        "disk": size(node.disk_bytes),
        "gpu": " ".join(filter(None, (f"{node.gpus or ''}", node.gpu_vendor, node.gpu_model))),
        "public_ip": "yes" if node.public_ip else "no",
        "ports": ", ".join(_opening(rule) for rule in node.ports),
        "volumes": ", ".join(
            f"{size(each.size_bytes) or each.volume_id or each.snapshot_id} {each.mount}" for each in node.volumes
        ),
        "image": image,
    }


def _opening(rule: PortRule) -> str:
    ports = f"{rule.port}" if rule.port == rule.port_end else f"{rule.port}-{rule.port_end}"
    protocol = "" if rule.protocol == "tcp" else f"/{rule.protocol}"
    return ports + protocol + ("" if rule.remote_cidr == ANYWHERE else f" from {rule.remote_cidr}")


def size(amount: int) -> str:
    """Return bytes in the largest unit that shows them exactly, else in GB; nothing for 0."""
    if not amount:
        return ""
    exact = next((f"{amount // factor} {unit}" for unit, factor in _UNITS if amount % factor == 0), "")
    return exact or f"{amount / 1000**3:.2f} GB"


def _words(members: Mapping[str, Any]) -> str:
    shown = ((key.replace("_", " "), value) for key, value in members.items() if value)
    return ", ".join(f"{key} {_shown(value)}" for key, value in shown)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _show_warnings(rows: Iterable[Json]) -> None:
    told = list(rows)
    if told:
        click.echo()
        _show_problems(told)


# ── a form


def _field_rows(made: Form) -> list[Json]:
    """Return a row for each input, tab by tab, then for each that the platform fills in."""
    ui: Any = made.ui
    schema: Any = made.schema
    rows = []
    for tab in ui["tabs"]:
        for name in tab["fields"]:
            asked, shown = schema["properties"].get(name, {}), ui["fields"][name]
            row = {"tab": tab["title"], "name": name, "type": _type(asked, shown), "allowed": _allowed(asked, shown)}
            default = "(required)" if name in schema["required"] else ""
            row["default"] = _brief(asked["default"]) if "default" in asked else default
            rows.append(row | {"description": asked.get("description", "") or shown.get("help", "")})
    for name, filled in ui["provided"].items():
        rows.append({"tab": "", "name": name, "type": filled["kind"], "description": "filled in by the platform"})
    return rows


def _brief(value: object) -> str:
    """Return the beginning of a value, for a cell of a table."""
    first, _, more = (value if isinstance(value, str) else json.dumps(value)).partition("\n")
    return f"{first[:_CELL]} …" if more or len(first) > _CELL else first


def _type(asked: Json, shown: Json) -> str:
    if "submit" in shown:
        return "control"
    entry = asked.get("items") or asked.get("additionalProperties")
    plain = str(asked.get("type") or asked.get("$ref", "").rpartition("/")[2])
    named = asked.get("format") or _TYPES.get(plain, plain)
    inner = f" of {_type(entry, {})}" if isinstance(entry, dict) else ""
    return f"secret {named}" if asked.get("writeOnly") else f"{named}{inner}"


def _allowed(asked: Json, shown: Json) -> str:
    options = [str(option.get("value", option.get("label"))) for option in shown.get("options", ())]
    values = [str(value) for value in asked.get("enum", ())]
    limits = [f"{sign} {asked[key]}" for key, sign in _LIMITS.items() if key in asked]
    limits += [
        f"{key.removeprefix('x-')} {value}"
        for key, value in asked.items()
        if key.startswith("x-") and key != "x-constraints"
    ]
    lengths = [f"at least {asked[key]}" for key in _LENGTHS if asked.get(key)]
    return ", ".join(options or values or limits + lengths)
