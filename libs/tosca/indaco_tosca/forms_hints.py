"""What a form shows of an input beside its type: labels, widgets, options, tabs and conditions.

Hints come from four places, a later one over an earlier one: the ``metadata`` of the input; the ``tabs`` of the template's
metadata; a parameters document, which INDIGO's dashboard keeps beside a template; and, in that, the ``group_overrides`` of the
groups that somebody acts for. They are advice: what is wrong with one is a warning, and the form goes without it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from indaco_tosca.errors import Problem, TemplateError
from indaco_tosca.load import load
from indaco_tosca.model import Template
from indaco_tosca.pattern import PatternError, cost, matches
from indaco_tosca.positions import Path
from indaco_tosca.report import Report, known
from indaco_tosca.scalars import source_text
from indaco_tosca.schema import CONSTRAINTS, PRIMITIVES, Constraint
from indaco_tosca.tree import as_list, as_map, as_text

Hint = Mapping[str, object]

PROVIDED: Final = frozenset({
    "ssh_user", "uuidgen", "random_password", "random", "userinfo", "userid", "access_token", "ldap_user",
    "openstack_ec2credentials", "swift_token", "swift_autouuid", "vault_token", "secrets_path", "secrets_action",
})  # fmt: skip
"""Kinds of inputs that the platform fills in, so that nobody is asked for them."""
WIDGETS: Final = {name: name for name in ("text", "textarea", "hidden", "password", "select", "radio", "toggle", "file")} | {
    "combined": "select", "dependent_select": "select", "multiselect": "multiselect", "dependent_definition": "variant",
    "email": "email", "hostname": "hostname", "secret": "password", "ssh_pub_key_type": "ssh-key", "vo_list": "text",
}  # fmt: skip
MAX_TABS: Final = 50
MAX_OPTIONS: Final = 500  # of one input
DEFAULT_TAB: Final = "Configuration"
_PATTERN_STEPS: Final = 5_000_000  # of matching the patterns of tabs and conditions against names

_KEYS: Final = frozenset({
    "display_name", "description", "type", "tag_type", "default", "required", "placeholder", "rows", "tab", "constraints",
    "options", "format", "parent", "entry_schema", "required_ports", "updatable", "reconfigure", "printable",
    "group_overrides", "info_box", "warning", "show_separator", "show_if", "enabled_by", "pattern", "function",
    "function_params", "secret", "attribute", "extra_specs", "inputs", "url", "dependent_inputs", "status", "length",
})  # fmt: skip
_ATTRIBUTE = re.compile(r"data-([A-Za-z0-9_.-]{1,80})=(?:\"([^\"]{0,500})\"|'([^']{0,500})')")


@dataclass(frozen=True, slots=True)
class Option:
    """A choice; ``sets`` are the values of other inputs that it stands for, ``parent_value`` is when it is offered."""

    value: object
    label: str
    description: str = ""
    parent_value: object = None
    sets: Mapping[str, object] = field(default_factory=dict)
    ref: str = ""

    def dump(self) -> dict[str, object]:
        more = {"description": self.description, "ref": self.ref, "set": dict(self.sets)}
        values = {"value": self.value, "parent_value": self.parent_value}
        shown = {"label": self.label} | {key: part for key, part in more.items() if part}
        return shown | {key: value for key, value in values.items() if value is not None}


@dataclass(slots=True)
class Hints:
    """The hints of every input, declared or only a control of the form; ``tabs`` is titles with their inputs."""

    template: Template
    fields: dict[str, Hint] = field(default_factory=dict)
    tabs: dict[str, list[str]] = field(default_factory=dict)
    conditions: dict[str, dict[str, object]] = field(default_factory=dict)
    given: Mapping[str, object] = field(default_factory=dict)
    _inside: Report = field(init=False)
    _beside: Report = field(default_factory=Report)
    _steps: int = 0

    def __post_init__(self) -> None:
        self._inside = Report(self.template.document)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return (*self._inside.warnings, *self._beside.warnings)

    def place(self, name: str) -> Path:
        """Return where the hints of an input are, as far as one can tell: in the parameters document or in the template."""
        return ("parameters", "inputs", name) if name in self.given else ("topology_template", "inputs", name)

    def warn(self, code: str, path: Path, message: str, hint: str = "") -> None:
        report = self._beside if path[0] == "parameters" else self._inside
        report.warn(code, path, message, hint)

    def kind(self, name: str) -> str:
        """Return the pseudo type of an input, or nothing if it has none but its TOSCA type."""
        hint = self.fields[name]
        said = as_text(hint.get("tag_type") or hint.get("type"))
        if said in PROVIDED or said in WIDGETS:
            return said
        if said and said not in PRIMITIVES and not said.startswith("tosca."):
            widgets = ", ".join(sorted(PROVIDED | WIDGETS.keys()))
            self.warn(
                "unknown-widget", ("parameters", "inputs", name), f"{said[:80]!r} is not a kind of input", widgets
            )
        return ""

    def matching(self, pattern: str, path: Path) -> list[str]:
        """Return the inputs whose whole name matches a pattern; one that cannot be used matches none, with a warning."""
        reason = "the patterns of this form take too long to match"
        try:
            if self._steps < _PATTERN_STEPS:
                self._steps += sum(cost(pattern, name) for name in self.fields)
                return [name for name in self.fields if matches(pattern, name)]
        except PatternError as error:
            reason = str(error)
        self.warn("bad-pattern", path, f"the pattern {pattern[:60]!r} cannot be used: {reason}")
        return []


def read_hints(template: Template, parameters: Mapping[str, object], groups: Collection[str]) -> Hints:
    """Return the hints of a template and of its parameters document for somebody who acts for *groups*."""
    given = as_map(parameters.get("inputs"))
    hints = Hints(template, given=given)
    entries = dict(_tab_entries(template))
    for name in [*template.inputs, *(name for name in given if name not in template.inputs)]:
        hint: dict[str, object] = {**_own_metadata(template, name), **entries.get(name, {}), **as_map(given.get(name))}
        overrides = as_map(hint.get("group_overrides"))
        for group in groups:
            hint |= as_map(overrides.get(group))
        hints.fields[name] = hint
        for key in sorted(as_map(given.get(name)).keys() - _KEYS):
            message = f"an input of a form has no key {key[:80]!r}; it is ignored"
            hints.warn("unknown-key", ("parameters", "inputs", name, key), message, known(sorted(_KEYS)))
    _fill_tabs(hints, parameters)
    _read_conditions(hints)
    return hints


def read_options(name: str, hints: Hints) -> tuple[list[Option], list[Constraint]]:
    """Return the options of an input and what else its constraints say: a list may hold both, in any spelling."""
    hint, path = hints.fields[name], hints.place(name)
    options: list[Option] = []
    constraints: list[Constraint] = []
    for key in ("options", "constraints"):
        content = literal(hint.get(key))
        for item in [content] if isinstance(content, dict) else as_list(content):
            found = _constraint(item)
            if found:
                constraints.append(found)
            elif len(options) < MAX_OPTIONS:
                options.append(_option(item))
            else:
                hints.warn("too-many-options", (*path, key), f"only the first {MAX_OPTIONS} options are offered")
                break
    return options, constraints


def literal(value: object) -> object:
    """Return a value that is written as text, as a list in quotes; text that is none is returned as it is."""
    if not isinstance(value, str) or value[:1] not in {"[", "{"}:
        return value
    try:
        return load(value).value
    except TemplateError:
        return value


def _constraint(item: object) -> Constraint | None:
    content = as_map(item)
    kind = next(iter(content), "")
    return Constraint(kind, content[kind]) if len(content) == 1 and kind in CONSTRAINTS else None


def _option(item: object) -> Option:
    content = as_map(item)
    if not content:
        return Option(item, source_text(item))
    value, sets = content.get("value"), as_map(content.get("set"))
    if isinstance(value, dict):  # an older spelling: what it sets is its value
        value, sets = content.get("label"), as_map(value)
    label = as_text(content.get("label")) or source_text(value)
    return Option(
        value,
        label,
        as_text(content.get("description")),
        content.get("parent_value"),
        sets,
        as_text(content.get("ref")),
    )


def _own_metadata(template: Template, name: str) -> Hint:
    topology = as_map(as_map(template.document.value).get("topology_template"))
    return as_map(as_map(as_map(topology.get("inputs")).get(name)).get("metadata"))


def _tab_entries(template: Template) -> Iterator[tuple[str, Hint]]:
    """Yield the hints in the tabs of the metadata: an entry is a name, or a name with hints."""
    for content in as_map(template.metadata.get("tabs")).values():
        for item in as_list(content):
            for name, hint in as_map(item).items():
                yield name, as_map(hint)


def _fill_tabs(hints: Hints, parameters: Mapping[str, object]) -> None:
    """Give every input one tab: by name if one lists it, else that whose pattern matches the fewest, else the first."""
    named: dict[str, str] = {}
    patterns: dict[str, list[str]] = {}
    metadata = as_map(hints.template.metadata.get("tabs"))
    titles = [source_text(title) for title in as_list(literal(parameters.get("tabs")))]
    for title, content in list(metadata.items())[:MAX_TABS]:
        path: Path = ("metadata", "tabs", title)
        if isinstance(content, str):
            patterns[title] = hints.matching(content, path)
        for item in as_list(content):
            name = next(iter(item), "") if isinstance(item, dict) else source_text(item)
            if name in hints.fields:
                named.setdefault(name, title)
            else:
                hints.warn("unknown-input", path, f"the tab {title[:60]!r} lists {name[:60]!r}, which is no input")
    for title in sorted(patterns, key=lambda title: len(patterns[title])):
        for name in patterns[title]:
            named.setdefault(name, title)
    named |= {name: tab for name, hint in hints.fields.items() if (tab := as_text(hint.get("tab")))}
    first = titles[0] if titles else DEFAULT_TAB
    order = dict.fromkeys([first, *titles, *metadata, *named.values()])
    tabs: dict[str, list[str]] = {title: [] for title in order}
    for name in hints.fields:
        tabs[named.get(name, first)].append(name)
    hints.tabs = {title: names for title, names in tabs.items() if names}


def _read_conditions(hints: Hints) -> None:
    """Note when an input is shown, as its own hints say it or as those of the input that decides it do."""
    for name, hint in hints.fields.items():
        condition = dict(as_map(hint.get("show_if")))
        other = as_text(hint.get("enabled_by"))
        if other:
            condition = {"field": other, "not": [False, "", 0]}
        if not condition:
            continue
        if as_text(condition.get("field")) not in hints.fields or not condition.keys() & {"in", "not"}:
            message = "show_if has a field, which is an input, and a list, in or not"
            hints.warn("bad-condition", hints.place(name), message, "show_if: {field: enable_gpu, in: [true]}")
            continue
        hints.conditions[name] = {"field": condition["field"]}
        for key in condition.keys() & {"in", "not"}:
            values = condition[key]
            hints.conditions[name][key] = values if isinstance(values, list) else [values]
    for name, hint in hints.fields.items():
        _read_function(name, hint, hints)


def _read_function(name: str, hint: Hint, hints: Hints) -> None:
    """Read the conditions that INDIGO's dashboard writes as attributes of HTML: patterns of the ids to show for a value.

    Only those are taken; the scripts that the attributes are for are not.
    """
    path: Path = (*hints.place(name), "function_params")
    attributes = {
        match[1]: match[2] or match[3] or "" for match in _ATTRIBUTE.finditer(as_text(hint.get("function_params")))
    }
    concerned = attributes.pop("showelems-id-filter", "")
    shown: dict[str, list[object]] = {}
    for key, pattern in attributes.items():
        value = key.removeprefix("showelems-").removesuffix("-pattern")
        if key == f"showelems-{value}-pattern" and concerned:
            for target in hints.matching(f".*(?:{pattern}).*", path):
                shown.setdefault(target, []).append({"true": True, "false": False}.get(value, value))
    for target in hints.matching(f".*(?:{concerned}).*", path) if concerned and shown else ():
        hints.conditions.setdefault(target, {"field": name, "in": shown.get(target, [])})
