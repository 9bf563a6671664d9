"""Declared inputs: what a template asks for, which of it is secret, and the values bound to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from typing import Final

from indaco_tosca.errors import Problem, pointer
from indaco_tosca.load import MAX_DEPTH, MAX_NODES
from indaco_tosca.model import Input, SecretPlaceholder, Template
from indaco_tosca.report import Report, known
from indaco_tosca.schema import CONSTRAINTS, Schema, read_schema
from indaco_tosca.tree import as_list, as_map, as_text, single_maps
from indaco_tosca.typeset import TypeCycle, TypeSet, UnknownType
from indaco_tosca.values import Coercer

_KEYS: Final = frozenset({
    "type", "description", "default", "required", "constraints", "entry_schema", "key_schema", "status", "metadata",
    "value",
})  # fmt: skip
_MAX_NAME: Final = 80  # characters at the end of a name that say whether it names a secret
_MAX_BITS: Final = 256  # of an integer: its text takes quadratic time to make
_CREDENTIAL: Final = "tosca.datatypes.Credential"
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_SECRET_WORDS: Final = frozenset({
    "password", "passphrase", "passwd", "pass", "pwd", "secret", "token", "credential", "credentials",
    "privatekey", "secretkey", "apikey", "accesskey",
})  # fmt: skip
_GENERATOR: Final = r"random\(\s*[0-9]*\s*\)|access_token\(\s*\)"

_WITHOUT_VALUE: Final = frozenset({"input-required", "unsupported-default", "bad-constraint"})
"""Codes of problems whose message has nothing of the value in it."""


def read_inputs(raw: object, metadata: Mapping[str, object], types: TypeSet, report: Report) -> dict[str, Input]:
    """Read the inputs of a topology; what is wrong with them goes to the report.

    An input is secret if its own metadata says ``secret: true``, if the template's metadata lists it under
    ``secret_inputs``, if its type is a Credential, or by its name: see :func:`is_secret_name`. ``secret: false`` on the
    input overrules the name.
    """
    listed = frozenset(as_text(name) for name in as_list(metadata.get("secret_inputs")))
    inputs: dict[str, Input] = {}
    for name, definition in as_map(raw).items():
        path = ("topology_template", "inputs", name)
        if definition is not None and not isinstance(definition, dict):
            report.error("bad-structure", path, "an input must be a map with a type")
            continue
        content = as_map(definition)
        for key in () if content.keys() <= _KEYS else sorted(content.keys() - _KEYS):
            report.warn("unknown-key", (*path, key), f"an input has no key {key!r}; it is ignored")
        schema = read_schema(content)
        _check_schema(schema, content, types, report, path)
        inputs[name] = Input(
            name,
            schema.type,
            schema,
            content.get("default"),
            "default" in content,
            content.get("required") is not False,
            as_text(content.get("description")),
            _is_secret(name, content, schema, listed, types),
        )
    return inputs


def _check_schema(
    schema: Schema, content: Mapping[str, object], types: TypeSet, report: Report, path: tuple[str, ...]
) -> None:
    current: Schema | None = schema
    while current:
        try:
            types.data(current.type)
        except UnknownType:
            report.error("unknown-type", (*path, "type"), f"the data type {current.type!r} is not known")
        except TypeCycle as error:
            report.error("type-cycle", (*path, "type"), f"the type derives from itself: {error}")
        current = current.entry
    constraints = content.get("constraints")
    if constraints is None:
        return
    if isinstance(constraints, dict):
        report.warn("constraints-not-a-list", (*path, "constraints"), "constraints should be a list of one-key maps")
    for kind, _, place in single_maps(constraints):
        if kind not in CONSTRAINTS:
            report.error("bad-constraint", (*path, "constraints", *place), f"{kind!r} is not a constraint")


def _is_secret(
    name: str, content: Mapping[str, object], schema: Schema, listed: frozenset[str], types: TypeSet
) -> bool:
    declared = as_map(content.get("metadata")).get("secret")
    if isinstance(declared, bool):
        return declared
    current: Schema | None = schema
    while current:
        if types.is_a("data_types", current.type, _CREDENTIAL):
            return True
        current = current.entry
    return name in listed or is_secret_name(name)


def is_secret_name(name: str) -> bool:
    """Return whether a name says that what it names is a secret.

    Its last word is password, passphrase, passwd, pass, pwd, secret, token or credential(s), or its last two are private,
    secret, api or access and key.
    """
    return _says_secret(name[-_MAX_NAME:])


@lru_cache(maxsize=1024)
def _says_secret(end: str) -> bool:
    words = [word.lower() for word in _WORD.findall(end)[-2:]]
    return bool(words) and (words[-1] in _SECRET_WORDS or "".join(words) in _SECRET_WORDS)


def is_generator(declared: Input, value: object) -> bool:
    """Return whether a text stands for one that a platform makes up: taken as it is, it would be a known password."""
    is_candidate = declared.type == "string" and isinstance(value, str) and ")" in value
    return is_candidate and bool(re.fullmatch(_GENERATOR, str(value).strip()))


def bind_inputs(
    template: Template, given: Mapping[str, object], absent_secrets: frozenset[str], report: Report
) -> dict[str, object]:
    """Return the value of every input that has one: given, else default, canonical and within its constraints.

    A null counts as not given. A secret in ``absent_secrets`` that is not given is bound to a placeholder.
    """
    for name in sorted(given.keys() - template.inputs.keys(), key=str):
        message = f"the template has no input {str(name)[:80]!r}"
        report.error("unknown-input", ("inputs", str(name)), message, known(template.inputs))
    if not _is_bounded(given):
        report.error(
            "inputs-too-large",
            ("inputs",),
            f"inputs may have {MAX_NODES} values, {MAX_DEPTH} levels deep, no number of more than {_MAX_BITS} bits "
            "and no character NUL",
        )
        report.raise_errors()
    coercer = Coercer(template.types, report)
    bound: dict[str, object] = {}
    for name, declared in template.inputs.items():
        value = given.get(name)
        if value is not None:
            bound[name] = coercer.coerce(value, declared.schema, ("inputs", name))
        elif name in absent_secrets and declared.secret:
            bound[name] = SecretPlaceholder(frozenset({name}))
        elif is_generator(declared, declared.default):
            message = f"the default of the input {name!r} stands for a text that is made up, which is not done here"
            report.error("unsupported-default", ("inputs", name), message, "give it a value")
        elif declared.has_default and declared.default is not None:
            path = ("topology_template", "inputs", name, "default")
            bound[name] = coercer.coerce(_copied(declared.default), declared.schema, path)
        elif declared.required:
            report.error("input-required", ("inputs", name), f"the input {name!r} has no value and no default")
    return bound


def _copied(default: object) -> object:
    """Return a default that may be changed; most are texts and numbers, which need no copy."""
    return deepcopy(default) if isinstance(default, dict | list) else default


def _is_bounded(given: Mapping[str, object]) -> bool:
    """Return whether inputs keep the limits that documents keep; a client may send what no document could hold."""
    waiting: list[tuple[object, int]] = [(value, 1) for value in given.values()]
    seen = 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        is_long = isinstance(value, int) and value.bit_length() > _MAX_BITS
        if seen > MAX_NODES or depth > MAX_DEPTH or is_long or (isinstance(value, str) and "\0" in value):
            return False
        if isinstance(value, dict):
            waiting.extend((item, depth + 1) for pair in value.items() for item in pair)
        elif isinstance(value, list):
            waiting.extend((item, depth + 1) for item in value)
    return True


def without_values(problems: tuple[Problem, ...], template: Template) -> tuple[Problem, ...]:
    """Return problems with the message of those about secret inputs, given or by default, made silent about the value."""
    rules: dict[str, str] = {}
    for name, declared in template.inputs.items():
        if declared.secret:
            path = pointer(("topology_template", "inputs", name, "default"))
            rules[pointer(("inputs", name))] = rules[path] = _rules(declared)
    return tuple(_silent(problem, rules) for problem in problems)


def _silent(problem: Problem, rules: Mapping[str, str]) -> Problem:
    path = next((path for path in rules if problem.path == path or problem.path.startswith(path + "/")), None)
    if path is None or problem.code in _WITHOUT_VALUE:
        return problem
    message = "the value of this secret input is not valid"
    return Problem(problem.code, problem.path, message, rules[path], problem.place)


def _rules(declared: Input) -> str:
    """Return what a value has to be, but for rules that would tell it."""
    telling = ("equal", "valid_values")
    rules = [f"{rule.kind} {str(rule.argument)[:80]}" for rule in declared.constraints[:5] if rule.kind not in telling]
    return f"it must be a {declared.type}" + (f" with {', '.join(rules)}" if rules else "")
