"""The form of a template: one model of what it asks for, for the web, the command line and the API.

``schema`` says which values are allowed, ``ui`` how to ask for them. The truth stays with :func:`indaco_tosca.plan`: it accepts
what the schema allows, and more of how people write it ("22" for 22), and it alone checks what JSON Schema cannot say.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from indaco_tosca.errors import Problem
from indaco_tosca.forms_hints import PROVIDED, WIDGETS, Hints, Option, literal, read_hints, read_options
from indaco_tosca.forms_schema import JsonSchema, Judge, SchemaWriter, flaw, narrowed
from indaco_tosca.inputs import is_generator
from indaco_tosca.model import Input, Template
from indaco_tosca.scalars import UNITS, plain, source_text
from indaco_tosca.schema import Constraint, Schema
from indaco_tosca.tree import as_list, as_map, as_text
from indaco_tosca.typeset import DataType

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_ONE_OF: Final = frozenset({"select", "radio", "combined", "dependent_select"})  # kinds of which one option is chosen
_CONTROLS: Final = _ONE_OF | {"toggle", "multiselect", "dependent_definition"}
_ENTRIES: Final = {"tosca.datatypes.network.PortSpec": "ports", "tosca.datatypes.indigo.User": "users"}
_SIMPLE: Final = dict.fromkeys(UNITS, "quantity") | {
    "boolean": "toggle", "integer": "number", "float": "number", "range": "range",
}  # fmt: skip
_PASSED_ON: Final = ("attribute", "extra_specs", "inputs", "url", "length")  # what a provider of values needs to know
_SHOWN: Final = {
    "placeholder": "placeholder", "rows": "rows", "info_box": "info", "warning": "warning", "show_separator": "separator",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """What to ask for, and how.

    ``schema`` is a JSON Schema (2020-12) of an object with a value for each input. ``ui`` has ``order`` (inputs as the template
    lists them), ``tabs`` (title and fields), ``fields`` (by input: ``widget``, and where it applies ``options``, ``show_if``,
    ``depends``, ``placeholder``, ``rows``, ``updatable``, ``secret``, ``required_ports`` …; with ``submit: false`` a control of the form
    that is not sent) and ``provided`` (inputs that the platform fills in). Texts are texts, never markup.
    """

    title: str
    description: str
    schema: JsonSchema
    ui: Mapping[str, object]
    warnings: tuple[Problem, ...] = ()

    def dump(self) -> dict[str, object]:
        """Return the form as one object that JSON can hold."""
        warnings = [{"code": each.code, "path": each.path, "message": each.message} for each in self.warnings]
        shown = {"title": self.title, "description": self.description, "schema": self.schema, "ui": dict(self.ui)}
        return {**shown, "warnings": warnings}


def form(template: Template, parameters: Mapping[str, object] | None = None, *, groups: Collection[str] = ()) -> Form:
    """Return the form of a template.

    ``parameters`` is a loaded parameters document (``*.parameters.yml``); ``groups`` are those that somebody acts for, whose
    overrides count. What is wrong with a hint is a warning, and the form goes without it; there are no errors.
    """
    hints = read_hints(template, parameters or {}, groups)
    builder = _Builder(template, hints)
    for name in hints.fields:
        builder.add(name)
    return builder.form()


@dataclass(slots=True)
class _Builder:
    template: Template
    hints: Hints
    properties: dict[str, JsonSchema] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)
    fields: dict[str, dict[str, object]] = field(default_factory=dict)
    provided: dict[str, dict[str, object]] = field(default_factory=dict)
    writer: SchemaWriter = field(init=False)
    judge: Judge = field(init=False)

    def __post_init__(self) -> None:
        self.writer = SchemaWriter(self.template.types)
        self.judge = Judge(self.template.types)

    def form(self) -> Form:
        schema: JsonSchema = {"$schema": _DIALECT, "type": "object", "properties": self.properties}
        schema |= {"required": self.required, "additionalProperties": False, "$defs": self.writer.definitions()}
        tabs = [
            {"title": title, "fields": shown}
            for title, names in self.hints.tabs.items()
            if (shown := [name for name in names if name in self.fields])
        ]
        ui = {"order": list(self.fields), "tabs": tabs, "fields": self.fields, "provided": self.provided}
        metadata = self.template.metadata
        title = as_text(metadata.get("display_name")) or as_text(metadata.get("template_name"))
        return Form(title, self.template.description, schema, ui, self.hints.warnings)

    def add(self, name: str) -> None:
        kind = self.hints.kind(name)
        hint = self.hints.fields[name]
        if kind in PROVIDED:
            told = {key: plain(hint[key]) for key in _PASSED_ON if key in hint}
            self.provided[name] = {"kind": kind, "label": self._label(name), **told}
        elif name in self.template.inputs:
            self._add_input(self.template.inputs[name], kind)
        else:
            self._add_control(name, kind)

    def _add_control(self, name: str, kind: str) -> None:
        if kind not in _CONTROLS:
            self._warn("unknown-input", name, f"the template has no input {name[:80]!r}: it is shown, but not sent")
        options, _ = read_options(name, self.hints)
        offered = [option for option in options if self._sets_what_is_allowed(name, option)]
        shown = {"label": self._label(name), "help": as_text(self.hints.fields[name].get("description"))}
        self.fields[name] = {**shown, **self._ui(name, WIDGETS.get(kind, "text"), offered), "submit": False}

    def _add_input(self, declared: Input, kind: str) -> None:
        name, hint = declared.name, self.hints.fields[declared.name]
        data = self.template.types.data(declared.type)
        options, said = read_options(name, self.hints)
        schema = self._narrower(declared, said, data)
        offered = self._offered(name, options, schema, kind)
        written = _with_options(self.writer.write(schema), offered, schema, kind)
        ports = self._required_ports(name, schema)
        if ports:
            written = narrowed(written, {"required": list(ports)})
        choices = [option.value for option in offered] if kind in _ONE_OF else as_list(written.get("enum"))
        default = self._default(declared, schema, choices)
        default = {**as_map(default), **ports} if ports else default
        is_required = hint.get("required") is True or (declared.required and default is None)
        self.required += [name] if is_required else []
        texts = {"title": self._label(name), "description": as_text(hint.get("description")) or declared.description}
        written = {key: text for key, text in texts.items() if text} | written
        if kind == "hidden" and is_required and default is None:
            self._warn(
                "hidden-without-value", name, "nobody can give this input a value, and it needs one", "a default"
            )
        shown = self._ui(name, WIDGETS.get(kind) or self._widget(declared, data, written, default), offered)
        if self._is_secret(declared, kind):
            written |= {"writeOnly": True}
            shown |= {"secret": True, "has_default": default is not None}
        elif default is not None:
            written |= {"default": default}
        self.properties[name] = written
        self.fields[name] = shown | ({"required_ports": ports} if ports else {})

    def _is_secret(self, declared: Input, kind: str) -> bool:
        if not declared.secret and kind in {"password", "secret"}:
            message = "the form hides the value, but the template does not say that it is secret"
            self._warn("not-secret", declared.name, message, "metadata: {secret: true} on the input")
            return True
        return declared.secret

    def _narrower(self, declared: Input, said: list[Constraint], data: DataType) -> Schema:
        """Return the schema of an input with the constraints of its hints too."""
        name = declared.name
        pattern = as_text(self.hints.fields[name].get("pattern"))
        more = [*said, *([Constraint("pattern", pattern)] if pattern else [])]
        usable = []
        for constraint in more:
            reason = flaw(constraint, data.primitive)
            if reason:
                self._warn("bad-constraint", name, f"{constraint.kind} cannot be applied: {reason}")
            else:
                usable.append(constraint)
        return declared.schema._replace(constraints=(*declared.schema.constraints, *usable))

    def _offered(self, name: str, options: list[Option], schema: Schema, kind: str) -> list[Option]:
        """Return the options that the template allows, with canonical values."""
        if kind == "dependent_definition":
            return [option for option in options if option.ref in self.hints.fields]
        target = schema.entry if kind == "multiselect" else schema  # none: the values are joined to a text
        offered = []
        for option in options:
            value = self.judge.canonical(option.value, target) if target else option.value
            if value is None:
                message = f"the option {option.label[:60]!r} is not a value that the template allows"
                self._warn("option-refused", name, f"{message}: {self._reason(name)}")
            elif self._sets_what_is_allowed(name, option):
                offered.append(replace(option, value=value))
        return offered

    def _sets_what_is_allowed(self, name: str, option: Option) -> bool:
        for target, value in option.sets.items():
            declared = self.template.inputs.get(target)
            if declared is None or self.judge.canonical(value, declared.schema) is None:
                message = f"the option {option.label[:60]!r} sets {target[:60]!r}, which does not take that value"
                self._warn("option-refused", name, message)
                return False
        return True

    def _default(self, declared: Input, schema: Schema, choices: list[object]) -> object:
        """Return the value to begin with: that of the hints if it can be used, else that of the template, else null."""
        name = declared.name
        for value in (self.hints.fields[name].get("default"), declared.default):
            if value is None:
                continue
            if is_generator(declared, value):
                message = (
                    f"the default {source_text(value)[:40]!r} stands for a text that is made up, which is not done here"
                )
                self._warn("unsupported-default", name, message, "who deploys gives a value")
                continue
            found = self.judge.canonical(value, schema)
            if found is None:
                found = self.judge.canonical(literal(value), schema)
            if found is None:
                self._warn("bad-default", name, f"the default cannot be used: {self._reason(name)}")
            elif choices and found not in choices:
                self._warn("bad-default", name, "the default is none of the values that are offered")
            else:
                return found
        return None

    def _required_ports(self, name: str, schema: Schema) -> Mapping[str, object]:
        asked = self.hints.fields[name].get("required_ports")
        ports = self.judge.canonical(asked, schema._replace(constraints=()))
        if asked is not None and not isinstance(ports, dict):
            self._warn("bad-ports", name, "required_ports is a map of ports, for an input that is one too")
        return as_map(ports)

    def _widget(self, declared: Input, data: DataType, written: JsonSchema, default: object) -> str:
        if declared.secret:
            return "password"
        entry = declared.schema.entry or data.entry
        if entry is not None:
            is_a = self.template.types.is_a
            known = (widget for name, widget in _ENTRIES.items() if is_a("data_types", entry.type, name))
            return next(known, data.primitive)
        if "enum" in written:
            return "select"
        if data.primitive in {"list", "map"}:
            return data.primitive
        if not data.primitive or data.primitive in {"json", "xml"}:
            return "group" if data.properties else "json"
        is_long = "\n" in as_text(default)
        return _SIMPLE.get(data.primitive, "textarea" if is_long else "text")

    def _ui(self, name: str, widget: str, offered: list[Option]) -> dict[str, object]:
        hint = self.hints.fields[name]
        shown: dict[str, object] = {"widget": widget}
        if offered:
            shown["options"] = [plain(option.dump()) for option in offered]
        shown |= {ours: plain(hint[theirs]) for theirs, ours in _SHOWN.items() if hint.get(theirs)}
        if as_text(hint.get("parent")) in self.hints.fields:
            shown["depends"] = hint["parent"]
        if hint.get("updatable") is True or hint.get("reconfigure") is True:
            shown["updatable"] = True
        if hint.get("printable") is False:
            shown["printable"] = False
        if delimiter := as_text(as_map(hint.get("format")).get("delimiter")):
            shown["delimiter"] = delimiter
        if name in self.hints.conditions:
            shown["show_if"] = self._condition(self.hints.conditions[name])
        return shown

    def _condition(self, condition: Mapping[str, object]) -> dict[str, object]:
        """Return a condition with its values as the input that decides it has them: text is true to one, "true" to another."""
        decider = self.template.inputs.get(str(condition["field"]))
        shown: dict[str, object] = {"field": condition["field"]}
        for key in ("in", "not"):
            values = [plain(value) for value in as_list(condition.get(key))]
            if decider:
                bare = decider.schema._replace(constraints=())
                values = [found for value in values if (found := self.judge.canonical(value, bare)) is not None]
            if key in condition:
                shown[key] = values
        return shown

    def _label(self, name: str) -> str:
        return as_text(self.hints.fields[name].get("display_name")) or name.replace("_", " ").strip().capitalize()

    def _reason(self, name: str) -> str:
        declared = self.template.inputs.get(name)
        return "it is secret" if declared and declared.secret else self.judge.reason

    def _warn(self, code: str, name: str, message: str, hint: str = "") -> None:
        self.hints.warn(code, self.hints.place(name), message, hint)


def _with_options(written: JsonSchema, offered: list[Option], schema: Schema, kind: str) -> JsonSchema:
    if offered and kind in _ONE_OF:
        titles = {json.dumps(option.value): option for option in reversed(offered)}  # under several parents: one value
        chosen = [{"const": option.value, "title": option.label} for option in reversed(titles.values())]
        return narrowed(written, {"oneOf": chosen})
    if offered and kind == "multiselect" and schema.entry:
        values = {"enum": [option.value for option in offered]}
        return narrowed(written, {"items": values, "uniqueItems": True})
    return written
