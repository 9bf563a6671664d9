"""What to ask a user for, made from the form of a template: its JSON Schema and the hints for a user interface.

Pure decisions: nothing is printed or read here. The server judges the values; only what would surely be refused is caught.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import click

from .inputs import parse

MOST_CHOICES = 50  # that a question lists
_BOOLEANS = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that may be chosen, and how it is called."""

    value: Any
    label: str


@dataclass(frozen=True, slots=True)
class Question:
    """One input to ask for. *kind* is the JSON type, ``""`` if any will do."""

    name: str
    label: str
    help: str = ""
    kind: str = ""
    choices: tuple[Choice, ...] = ()
    default: Any = None
    required: bool = False
    secret: bool = False
    least: float | None = None
    most: float | None = None

    def answer(self, text: str) -> Any:
        """Return the value that *text* means. Raises: click.UsageError, in words for whoever typed it."""
        if self.choices:
            return self._chosen(text)
        if self.kind == "string":
            return text
        if self.kind == "boolean":
            if text.lower() not in _BOOLEANS:
                raise click.UsageError("answer yes or no")
            return _BOOLEANS[text.lower()]
        if self.kind in {"integer", "number"}:
            return self._number(text)
        return parse(text, self.name)

    def _chosen(self, text: str) -> Any:
        if text.isascii() and text.isdigit() and 1 <= int(text) <= len(self.choices):
            return self.choices[int(text) - 1].value
        named = [choice.value for choice in self.choices if text in {choice.label, str(choice.value)}]
        if not named:
            raise click.UsageError(f"answer one of 1 to {len(self.choices)}, or write the value out")
        return named[0]

    def _number(self, text: str) -> int | float:
        try:
            value = int(text) if self.kind == "integer" else float(text)
        except ValueError:
            raise click.UsageError("answer a whole number" if self.kind == "integer" else "answer a number") from None
        if self.least is not None and value < self.least:
            raise click.UsageError(f"answer {self.least:g} or more")
        if self.most is not None and value > self.most:
            raise click.UsageError(f"answer {self.most:g} or less")
        return value


def questions(form: Mapping[str, Any]) -> list[Question]:
    """Return a question for each input that a form sends, in the order of its tabs."""
    properties, fields = form["schema"].get("properties", {}), form["ui"].get("fields", {})
    required = set(form["schema"].get("required", ()))
    tabs = [name for tab in form["ui"].get("tabs", ()) for name in tab["fields"]]
    order = dict.fromkeys([*tabs, *properties])
    return [
        _question(name, properties[name], fields.get(name, {}), is_required=name in required)
        for name in order
        if name in properties
    ]


def secrets(form: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the inputs that are secret."""
    return frozenset(name for name, each in form["schema"].get("properties", {}).items() if each.get("writeOnly"))


def is_shown(form: Mapping[str, Any], name: str, given: Mapping[str, Any]) -> bool:
    """Does an input matter, with what is *given*? Some depend on the value of another."""
    condition = form["ui"].get("fields", {}).get(name, {}).get("show_if")
    if not condition:
        return True
    decider = condition["field"]
    default = form["schema"].get("properties", {}).get(decider, {}).get("default")
    value = given.get(decider, default)
    if "in" in condition:
        return value in condition["in"]
    return value not in (*condition.get("not", ()), None)


def unanswered(form: Mapping[str, Any], given: Mapping[str, Any]) -> list[Question]:
    """Return the questions about inputs without which nothing can be deployed, and which nobody has given a value."""
    return [
        each
        for each in questions(form)
        if each.required and each.name not in given and is_shown(form, each.name, given)
    ]


def given_openly(form: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """Return which of *names*, whose values stand on the command line for all to see, are secret."""
    return sorted(secrets(form) & set(names))


def _question(name: str, asked: Mapping[str, Any], shown: Mapping[str, Any], *, is_required: bool) -> Question:
    kind = asked.get("type", "")
    return Question(
        name, str(asked.get("title") or name), str(asked.get("description") or shown.get("help") or ""),
        kind if isinstance(kind, str) else "", _choices(asked, shown), asked.get("default"), is_required,
        bool(asked.get("writeOnly") or shown.get("secret")), asked.get("minimum"), asked.get("maximum"),
    )  # fmt: skip


def _choices(asked: Mapping[str, Any], shown: Mapping[str, Any]) -> tuple[Choice, ...]:
    """Return what may be chosen, if it is one of few; options of the hints have labels, those of the schema have not always."""
    if asked.get("type") in {"array", "object"}:
        return ()
    options = [
        Choice(each["value"], str(each.get("label") or each["value"]))
        for each in shown.get("options", ())
        if "value" in each
    ]
    named = [
        Choice(each["const"], str(each.get("title") or each["const"]))
        for each in asked.get("oneOf", ())
        if "const" in each
    ]
    plain = [Choice(value, str(value)) for value in asked.get("enum", ())]
    found = {repr(each.value): each for each in (options or named or plain)}
    return tuple(found.values())[:MOST_CHOICES] if len(found) <= MOST_CHOICES else ()
