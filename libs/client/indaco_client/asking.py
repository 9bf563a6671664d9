"""Asking the questions of a form on a terminal: labels, choices, defaults; secrets are not shown as they are typed."""

from collections.abc import Mapping
from typing import Any

import click

from .questions import Question, is_shown, questions, unanswered
from .tables import clean

TRIES = 10


def ask(form: Mapping[str, Any], given: dict[str, Any], *, everything: bool) -> None:
    """Add to *given* what the user answers: to what is missing, or to *everything* that is not given, with its default offered.

    Raises: click.Abort, if the user stops; click.UsageError, if no answer will do.
    """
    for question in questions(form) if everything else unanswered(form, given):
        if question.name in given or not is_shown(form, question.name, given):
            continue
        value = answer(question)
        if value is not None:
            given[question.name] = value


def answer(question: Question) -> Any:
    """Ask, and return the value; None, if the default is to be taken. Raises: click.Abort, click.UsageError."""
    _explain(question)
    for _ in range(TRIES):
        text = _line(question)
        if text == "" and not question.required:
            return None
        try:
            if text:
                return question.answer(text)
            click.echo("  a value is needed", err=True)
        except click.UsageError as error:
            click.echo(f"  {error.message}", err=True)
    raise click.UsageError(f"{question.name}: no answer after {TRIES} tries")


def _explain(question: Question) -> None:
    if question.help:
        click.echo(clean(f"\n{question.help}"), err=True)
    for number, choice in enumerate(question.choices, start=1):
        click.echo(clean(f"  {number}  {choice.label}"), err=True)


def _line(question: Question) -> str:
    default = "" if question.default is None or question.secret else str(question.default)
    shown = f" [{default.splitlines()[0][:60]}]" if default else ""
    label = clean(f"{question.label}{shown}").replace("\n", " ")
    text: str = click.prompt(label, default="", show_default=False, hide_input=question.secret, err=True)
    return text.strip() if not question.secret else text
