"""The page shows what the document says, and nothing that it says is markup."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from aiohttp import web
from pydantic import BaseModel, Field

from indaco_common.web import describe
from indaco_common.web.openapi import Api, document
from indaco_common.web.openapi_page import POLICY, STYLE, page

EVIL = "<script>alert(1)</script>&\"'"


class Inner(BaseModel):
    size: int = Field(ge=1, le=9, description=EVIL)


class Thing(BaseModel):
    """Has ``parts`` of a kind."""

    id: str = Field(pattern="^<[a-z]+>$")
    inner: list[Inner]
    by_name: dict[str, Inner]


class Asked(BaseModel):
    text: str | None = None


@describe(
    EVIL, tag="<b>things</b>", query=Asked, body=Thing, answers={200: Thing}, errors=(404,), headers={"If-Match": EVIL}
)
async def change(request: web.Request) -> web.Response:
    """Heeds ``If-Match``, `one` and *name*; 2 * 3 * 4."""
    return web.Response()


class Reader(HTMLParser):
    """Notes elements, texts, ids and where links lead; unbalanced markup fails."""

    VOID = frozenset({"meta", "br", "wbr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        assert not [name for name in values if name.startswith("on") or name == "style"]
        self.ids += [value for name, value in values.items() if name == "id" and value]
        self.links += [value for name, value in values.items() if name in ("href", "src") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open[-1] != tag:  # the end tags of these may be left out
            assert self.open.pop() in ("li", "tr", "td", "th", "p")
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    api = Api(title=EVIL, version="1", description=EVIL, face=lambda _: "native")
    return document([web.put("/v1/things/{id}", change)], api)


@pytest.fixture(scope="module")
def text(made: dict[str, Any]) -> str:
    return page(made, {"openapi.json": "document"})


@pytest.fixture(scope="module")
def reader(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_it_has_no_script_and_nothing_from_elsewhere(text: str, reader: Reader) -> None:
    assert not reader.tags & {"script", "img", "link", "iframe", "form", "object", "base"}
    assert all(link.startswith("#") or link == "openapi.json" for link in reader.links)
    assert "http" not in re.sub(r"https://indaco\.dev/problems/", "", STYLE + "".join(reader.links))
    assert "url(" not in STYLE


def test_what_the_document_says_is_text(text: str, reader: Reader) -> None:
    assert "<script" not in text
    assert reader.text.count("<script>alert(1)</script>") >= 4
    assert "^<[a-z]+>$" in reader.text


def test_links_within_the_page_lead_somewhere(reader: Reader) -> None:
    inner = {link.removeprefix("#") for link in reader.links if link.startswith("#")}
    assert inner <= set(reader.ids)
    assert {"putV1ThingsId", "schema-Inner", "schema-Problem"} <= inner


def test_ids_are_unique(reader: Reader) -> None:
    assert len(reader.ids) == len(set(reader.ids))


def test_every_operation_parameter_and_answer_is_shown(reader: Reader, made: dict[str, Any]) -> None:
    operation = made["paths"]["/v1/things/{id}"]["put"]
    shown = [*(each["name"] for each in operation["parameters"]), *operation["responses"], "counts as: write"]
    assert [word for word in shown if word not in reader.text] == []
    assert "list of Inner" in reader.text
    assert "map to Inner" in reader.text
    assert "≥ 1, ≤ 9" in reader.text


def test_literals_are_set_as_code(text: str) -> None:
    assert "Heeds <code>If-Match</code>, <code>one</code> and <i>name</i>; 2 * 3 * 4." in text


def test_the_policy_allows_its_style_and_nothing_else(text: str) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in POLICY
    assert "default-src 'none'" in POLICY
