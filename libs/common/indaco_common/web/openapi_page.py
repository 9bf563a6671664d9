"""An OpenAPI document as one page for people: plain HTML, its own style, no script, nothing from elsewhere."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

Schema = Mapping[str, Any]

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --link: light-dark(#0b57b0, #8ab8f0); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 68rem; padding: 1rem; }
h1, h2 { line-height: 1.2; } h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem; padding-bottom: .2rem; }
h4 { margin: 1rem 0 .3rem; }
a { color: var(--link); } code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
nav ul { columns: 18rem; list-style: none; margin: .3rem 0 1rem; padding: 0; } nav a { text-decoration: none; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .4rem 0; }
details > div { border-top: 1px solid var(--line); padding: .2rem 1rem .8rem; }
summary { cursor: pointer; padding: .4rem .7rem; } summary span { margin-left: .6rem; }
summary b { display: inline-block; font: 700 .8em ui-monospace, monospace; min-width: 4.2em; }
.get { color: light-dark(#1a6b34, #7fd69b); } .post { color: light-dark(#0b57b0, #8ab8f0); } .delete { color: light-dark(#a3201d, #f19a97); }
.put, .patch { color: light-dark(#7a4b00, #e6bd6f); }
table { border-collapse: collapse; width: 100%; } th { text-align: left; }
td, th { border-top: 1px solid var(--line); padding: .25rem .6rem .25rem 0; vertical-align: top; }
.note { background: var(--soft); border-radius: .3rem; font-size: .85em; padding: .1rem .4rem; }
@media (max-width: 40rem) { td, th { display: block; } th { display: none; } }
"""
POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_BOUNDS = {
    "minimum": "≥",
    "maximum": "≤",
    "minLength": "length ≥",
    "maxLength": "length ≤",
    "minItems": "items ≥",
    "maxItems": "items ≤",
}


def page(document: Schema, links: Mapping[str, str]) -> str:
    """Return *document* as HTML; *links*: address → what is there. Serve it with :data:`POLICY`, which allows its style alone."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{escape(info['title'])} {escape(info['version'])}: API</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1><p>{_text(info['description'])}</p>",
        "<ul>", *(f"<li><a href='{escape(url)}'>{escape(text)}</a></li>" for url, text in links.items()), "</ul>",
        *_contents(document), *_operations(document), "<h2>Schemas</h2>",
        *(_schema(name, schema) for name, schema in document["components"]["schemas"].items()),
        "</main></body></html>",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def _tagged(document: Schema) -> Iterator[tuple[Schema, list[tuple[str, str, Schema]]]]:
    """Yield each tag with its operations as (method, path, operation)."""
    known = [(m, path, each) for path, methods in document["paths"].items() for m, each in methods.items()]
    for tag in document["tags"]:
        yield tag, [found for found in known if tag["name"] in found[2]["tags"]]


def _contents(document: Schema) -> Iterator[str]:
    yield "<nav>"
    for tag, operations in _tagged(document):
        yield f"<b>{escape(tag['name'])}</b><ul>"
        for method, path, each in operations:
            yield f"<li><a href='#{each['operationId']}'><code><b class={method}>{method.upper()}</b> {_path(path)}</code></a></li>"
        yield "</ul>"
    yield "</nav>"


def _operations(document: Schema) -> Iterator[str]:
    for tag, operations in _tagged(document):
        yield f"<h2>{escape(tag['name'])}</h2><p>{_text(tag.get('description', ''))}</p>"
        for method, path, each in operations:
            yield _operation(document, method, path, each)


def _operation(document: Schema, method: str, path: str, each: Schema) -> str:
    limit = each.get("x-rate-limit")
    notes = [f"counts as: {limit}"] if limit else ["public"]
    inside = [
        f"<p>{_text(each.get('description', ''))}</p>",
        "<p>" + " ".join(f"<span class=note>{escape(note)}</span>" for note in notes) + "</p>",
        *_parameters(each.get("parameters", ())),
    ]
    if body := each.get("requestBody"):
        inside.append("<h4>Body</h4>")
        inside += [f"<p>{_content(media, of)}</p>" for media, of in body["content"].items()]
    inside += ["<h4>Answers</h4>", _table(("status", "", "content"), _answers(document, each["responses"]))]
    head = f"<b class={method}>{method.upper()}</b> <code>{_path(path)}</code><span>{escape(each['summary'])}</span>"
    return f"<details><summary>{head}</summary><div id={each['operationId']}>{''.join(inside)}</div></details>"


def _parameters(parameters: Iterable[Schema]) -> Iterator[str]:
    rows = [
        (
            f"<code>{escape(each['name'])}</code>" + (" *" if each["required"] else ""),
            escape(each["in"]),
            _shape(each["schema"]),
            _text(each.get("description", "")),
        )
        for each in parameters
    ]
    if rows:
        yield "<h4>Parameters</h4>" + _table(("name (* required)", "in", "value", ""), rows)


def _answers(document: Schema, responses: Schema) -> Iterator[tuple[str, ...]]:
    for status, answer in responses.items():
        found = document["components"]["responses"][_last(answer["$ref"])] if "$ref" in answer else answer
        content = "<br>".join(_content(media, of) for media, of in found.get("content", {}).items())
        yield f"<code>{status}</code>", escape(found["description"]), content


def _content(media: str, of: Schema) -> str:
    return f"<code>{escape(media)}</code> {_shape(of['schema'])}"


def _schema(name: str, schema: Schema) -> str:
    required = schema.get("required", ())
    rows = [
        (f"<code>{escape(key)}</code>" + (" *" if key in required else ""), _shape(each), _text(each.get("description", "")))
        for key, each in schema.get("properties", {}).items()
    ]  # fmt: skip
    table = _table(("field (* always)", "value", ""), rows) if rows else f"<p>{_shape(schema)}</p>"
    inside = f"<p>{_text(schema.get('description', ''))}</p>{table}"
    return f"<details><summary><code>{escape(name)}</code></summary><div id='{_anchor(name)}'>{inside}</div></details>"


def _shape(schema: Schema) -> str:
    """Return what a value is, in words and links."""
    if "$ref" in schema:
        name = _last(schema["$ref"])
        return f"<a href='#{_anchor(name)}'>{escape(name)}</a>"
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_shape(option) for option in options) + _limits(schema)
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(each))}</code>" for each in schema["enum"]) + _limits(schema)
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_shape(schema.get('items', {}))}" + _limits(schema)
    if kind == "object" and isinstance(values := schema.get("additionalProperties"), dict):
        return f"map to {_shape(values)}" + _limits(schema)
    return escape(f"{kind} ({schema['format']})" if "format" in schema else str(kind)) + _limits(schema)


def _limits(schema: Schema) -> str:
    said = [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
    said += [f"<code>{escape(schema['pattern'])}</code>"] if "pattern" in schema else []
    said += [f"default <code>{escape(json.dumps(schema['default']))}</code>"] if "default" in schema else []
    return f" <small>{', '.join(said)}</small>" if said else ""


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _text(text: str) -> str:
    """Return prose with its ``literals`` set as code and its *names* as such, as docstrings write them."""
    pieces = re.split(r"`+", escape(text))
    return "".join(
        f"<code>{piece}</code>" if number % 2 else re.sub(r"\*(\w+)\*", r"<i>\1</i>", piece)
        for number, piece in enumerate(pieces)
    )


def _path(path: str) -> str:
    return escape(path).replace("/", "/<wbr>")


def _anchor(name: str) -> str:
    return "schema-" + "".join(char if char.isalnum() or char in "-_" else "-" for char in name)


def _last(ref: str) -> str:
    return ref.rpartition("/")[2]
