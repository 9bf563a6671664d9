"""The catalogue from files: what becomes a card, what is left out and why, who sees what, and the tests that templates carry."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indaco_tosca import TemplateError
from indaco_tosca.catalogue import (
    MAX_BYTES,
    MAX_CARDS,
    MAX_CASES,
    MAX_FILES,
    MAX_GUIDE_BYTES,
    MAX_VERSIONS,
    Catalogue,
    is_part,
    read,
)
from indaco_tosca.catalogue_check import checked, run_tests
from indaco_tosca.svg import flaw

CARD = "title: Jupyter\ndescription: Notebooks\n"
TEMPLATE = """
tosca_definitions_version: tosca_simple_yaml_1_3
imports: [indigo.yaml]
topology_template:
  inputs:
    cpus: {type: integer, default: 2, constraints: [in_range: [1, 8]]}
    count: {type: integer, default: 1}
    admin_token: {type: string, default: ""}
  node_templates:
    server:
      type: tosca.nodes.indigo.Compute
      capabilities:
        endpoint:
          properties: {network_name: PUBLIC, ports: {web: {protocol: tcp, source: 443}, dns: {protocol: udp, source: 53}}}
        scalable: {properties: {count: {get_input: count}}}
        host: {properties: {num_cpus: {get_input: cpus}, mem_size: 4 GB, disk_size: 20 GiB}}
      requirements:
        - local_storage: {node: data, relationship: {type: tosca.relationships.AttachesTo, properties: {location: /data}}}
    data:
      type: tosca.nodes.BlockStorage
      properties: {size: 10 GB}
  outputs:
    ip: {value: {get_attribute: [server, public_address, 0]}}
"""
TEST = "cases: [{name: it starts, expect: {outputs: [ip]}}]"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><path d="M0 0h8" fill="url(#a)"/></svg>'


def files(*changes: Mapping[str, str | bytes | None], name: str = "jupyter") -> dict[str, bytes]:
    """A card that is fine, with what the maps change (None: the file is not there)."""
    found: dict[str, str | bytes | None] = {
        "card.yaml": CARD, "guide.md": "# First steps", "1.0.0/template.yaml": TEMPLATE, "1.0.0/test.yaml": TEST,
    }  # fmt: skip
    for change in changes:
        found |= change
    contents = {path: text.encode() if isinstance(text, str) else text for path, text in found.items()}
    return {f"{name}/{path}": content for path, content in contents.items() if content is not None}


def told(catalogue: Catalogue) -> list[str]:
    return [f"{each.file}:{each.problem.line}: {each.problem.message}" for each in catalogue.problems]


def expecting(expect: str, inputs: str = "{}") -> list[str]:
    """What a test that expects this finds wrong."""
    test = f"cases:\n- name: a case\n  inputs: {inputs}\n  expect:\n    {expect}\n"
    catalogue = read(files({"1.0.0/test.yaml": test}))
    assert not told(catalogue)
    return told(checked(catalogue))


# ── cards


def test_a_folder_is_a_card_with_its_versions_newest_first() -> None:
    card = """
    title: Jupyter for physics
    description: |
      Notebooks,
      with your data
    icon: icon.svg
    tags: [python, 3.10]
    guide: first-steps.md
    groups: [/cms, "atlas/*"]
    order: 7
    """
    change = {
        "card.yaml": card, "first-steps.md": "# Häns", "icon.svg": SVG, "1.10.0/template.yaml": "\ufeff" + TEMPLATE, "1.10.0/test.yaml": TEST,
        "1.9.3/template.yaml": TEMPLATE + "# old", "1.9.3/test.yaml": TEST, "1.9.3/notes.md": "ignored", "1.9.3/parameters.yaml": "tabs: {}", "picture.png": b"\xff",
    }  # fmt: skip
    catalogue = read(files(change) | {"README.md": b"about", ".git/config.yaml": b"{", "a/b/c/d.yaml": b"{"})
    assert not told(catalogue)
    found = catalogue.cards["jupyter"]
    assert (found.title, found.description) == ("Jupyter for physics", "Notebooks, with your data")
    assert (found.icon, found.svg, found.guide) == ("icon.svg", SVG, "# Häns")
    assert (found.tags, found.groups, found.order) == (("python", "3.10"), ("cms", "atlas/*"), 7)
    assert [version.number for version in found.versions] == ["1.10.0", "1.9.3", "1.0.0"]
    newest, old = found.version(), found.version("1.9.3")
    assert newest
    assert old
    assert newest.template == TEMPLATE
    assert (newest.parameters, old.parameters) == ({}, {"tabs": {}})
    assert (newest.folder, len(newest.digest)) == ("jupyter/1.10.0", 64)
    assert newest.digest != old.digest
    assert found.version("2.0.0") is None


def test_what_a_card_does_not_say_has_a_default() -> None:
    card = read(files({"guide.md": None})).cards["jupyter"]
    assert (card.icon, card.svg, card.tags, card.groups, card.guide, card.order) == ("", "", (), (), "", 1000)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"card.yaml": None}, "jupyter/card.yaml:0: the file is missing"),
        ({"card.yaml": "- a"}, "jupyter/card.yaml:1: the file must be a map"),
        ({"card.yaml": "a: ["}, "jupyter/card.yaml:2: did not find expected node content"),
        ({"card.yaml": CARD + "title: x"}, "jupyter/card.yaml:3: the key 'title' is given twice"),
        ({"card.yaml": CARD + "\ntagz: [a]"}, "jupyter/card.yaml:4: there is no key 'tagz' here"),
        ({"card.yaml": "title: x\n"}, "jupyter/card.yaml:1: description is missing"),
        ({"card.yaml": CARD + "tags: a"}, "jupyter/card.yaml:3: tags must be a list of 50 texts at most"),
        ({"card.yaml": CARD + "tags: [[a]]"}, "jupyter/card.yaml:3: 0 must be text"),
        ({"card.yaml": CARD + "order: first"}, "jupyter/card.yaml:3: order must be a whole number"),
        ({"card.yaml": CARD + "order: true"}, "jupyter/card.yaml:3: order must be a whole number"),
        ({"card.yaml": CARD + "groups: ['*/cms']"}, "jupyter/card.yaml:3: '*/cms' is no group"),
        ({"card.yaml": CARD + "groups: ['']"}, "jupyter/card.yaml:3: 0 is missing"),
        ({"card.yaml": CARD + "icon: ../x"}, "jupyter/card.yaml:3: '../x' is no icon"),
        ({"card.yaml": CARD + "icon: icon.svg"}, "jupyter/icon.svg:0: the file is missing"),
        ({"card.yaml": CARD + "icon: icon.svg", "icon.svg": "<svg/>"}, "jupyter/icon.svg:0: the icon's namespace is not"),
        ({"card.yaml": CARD + "guide: ../other/guide.md"}, "jupyter/../other/guide.md:0: the file is missing"),
        ({"card.yaml": 'title: "a\\u202eb"\ndescription: d'}, "jupyter/card.yaml:1: title must be 80 printable"),
        ({"card.yaml": f"title: {'a' * 81}\ndescription: d"}, "jupyter/card.yaml:1: title must be 80 printable"),
        ({"guide.md": b"\xff"}, "jupyter/guide.md:0: the file is not UTF-8 text"),
        ({"guide.md": b"a" * (MAX_GUIDE_BYTES + 1)}, "jupyter/guide.md:0: the guide has"),
        ({"1.0.0/template.yaml": None}, "jupyter/1.0.0/template.yaml:0: the file is missing"),
        ({"1.0.0/template.yaml": TEMPLATE.replace("indigo.Compute", "Nothing")}, "jupyter/1.0.0/template.yaml:11: the node type"),
        ({"1.0.0/parameters.yaml": "- a"}, "jupyter/1.0.0/parameters.yaml:1: the file must be a map"),
        ({"1.0.0/test.yaml": None}, "jupyter/1.0.0/test.yaml:0: the file is missing"),
        ({"1.0.0/test.yaml": "cases: []"}, "jupyter/1.0.0/test.yaml:1: a test has from 1 to 50 cases"),
        ({"1.0.0/test.yaml": "cases: [{name: a}]"}, "jupyter/1.0.0/test.yaml:1: a case must expect something"),
        ({"1.0.0/test.yaml": "cases: [7]"}, "jupyter/1.0.0/test.yaml:1: a case must be a map"),
        ({"1.0.0/test.yaml": "cases:\n- name: a\n  input: {}\n  expect: {outputs: []}"}, "jupyter/1.0.0/test.yaml:3: there is no key 'input'"),
        ({"1.0.0/test.yaml": "cases:\n- name: a\n  inputs: []\n  expect: {outputs: []}"}, "jupyter/1.0.0/test.yaml:3: inputs must be a map"),
        ({"1.0.0/test.yaml": TEST[:-1] + ", {expect: {outputs: [ip]}}]"}, "jupyter/1.0.0/test.yaml:1: name is missing"),
        ({"1.0/template.yaml": TEMPLATE}, "jupyter/1.0/template.yaml:0: '1.0' is no version"),
        ({"01.0.0/template.yaml": TEMPLATE}, "jupyter/01.0.0/template.yaml:0: '01.0.0' is no version"),
        ({"1.0.0/template.yaml": None, "1.0.0/test.yaml": None}, "jupyter/card.yaml:0: the card has no version"),
    ],
)  # fmt: skip
def test_a_card_with_a_problem_is_left_out_and_the_others_stay(change: dict, problem: str) -> None:
    catalogue = read(files(change) | files(name="other"))
    assert list(catalogue.cards) == ["other"]
    assert [line for line in told(catalogue) if line.startswith(problem)], told(catalogue)
    assert {each.card for each in catalogue.problems} == {"jupyter"}


@pytest.mark.parametrize("name", ["Jupyter", "status", "reload", "a b", "-a", "a" * 64, "ünì"])
def test_a_name_is_a_part_of_an_address(name: str) -> None:
    catalogue = read(files(name=name))
    assert not catalogue.cards
    assert [each.problem.code for each in catalogue.problems] == ["bad-card"]


def test_all_problems_of_a_card_are_told_at_once_with_how_to_mend_them() -> None:
    change = {
        "card.yaml": "title: [a]\nicon: A",
        "1.0.0/template.yaml": "a: [",
        "1.0.0/test.yaml": None,
        "x/test.yaml": "",
    }
    problems = [problem.dump() for problem in read(files(change)).problems]
    assert [each["file"] for each in problems] == [
        "jupyter/1.0.0/template.yaml", "jupyter/1.0.0/test.yaml", "jupyter/x/template.yaml", *["jupyter/card.yaml"] * 3,
    ]  # fmt: skip
    assert [each["hint"] for each in problems if each["code"] == "bad-icon"] == ["a name such as server, or icon.svg"]


def test_nothing_is_taken_of_what_is_empty_or_too_large() -> None:
    cases = [
        ({}, "there is no card"),
        ({"README.md": b"x"}, "there is no card"),
        ({f"a/{n}.md": b"" for n in range(MAX_FILES + 1)}, f"{MAX_FILES} are allowed"),
        ({f"a/{n}.md": b"a" * (MAX_BYTES // 2) for n in range(3)}, f"{MAX_BYTES} are allowed"),
        ({f"a{n}/card.yaml": b"" for n in range(MAX_CARDS + 1)}, f"{MAX_CARDS} are allowed"),
    ]
    for given_files, why in cases:
        with pytest.raises(TemplateError, match=why):
            read(given_files)
    too_many = {f"1.0.{n}/test.yaml": TEST for n in range(MAX_VERSIONS)}
    assert not any("are allowed" in line for line in told(read(files(too_many))))
    assert f"{MAX_VERSIONS} are allowed" in told(read(files(too_many | {"9.0.0/test.yaml": TEST})))[0]
    many = "cases: [" + "{name: a, expect: {outputs: [ip]}}," * (MAX_CASES + 1) + "]"
    assert "from 1 to" in told(read(files({"1.0.0/test.yaml": many})))[0]


_PATH = st.lists(
    st.sampled_from(["a", "1.0.0", "card.yaml", "template.yaml", "test.yaml", "guide.md", ".git", "icon.svg", ""]),
    max_size=4,
)


@given(
    st.dictionaries(
        _PATH.map("/".join),
        st.one_of(st.binary(max_size=60), st.sampled_from([CARD.encode(), TEMPLATE.encode(), TEST.encode()])),
        max_size=8,
    )
)
def test_whatever_the_files_are_only_our_error_is_raised(found: dict[str, bytes]) -> None:
    try:
        catalogue = checked(read(found))
    except TemplateError:
        return
    assert catalogue.cards or catalogue.problems
    assert all(problem.dump()["message"] for problem in catalogue.problems)


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("a/card.yaml", True), ("a/1.0.0/test.yaml", True), ("a/guide.md", True), ("a/icon.svg", True), ("card.yaml", False),
        ("a/b/c/card.yaml", False), (".git/card.yaml", False), ("a/.1/test.yaml", False), ("a/x.png", False), ("", False),
    ],
)  # fmt: skip
def test_only_what_can_belong_to_a_card_is_read(path: str, *, is_one: bool) -> None:
    assert is_part(path) is is_one


# ── icons


def test_an_icon_of_plain_shapes_is_taken() -> None:
    assert not flaw(SVG.encode())


@pytest.mark.parametrize(
    "text",
    [
        "", "<", "<html/>", SVG.replace("path", "script"), SVG.replace("<path ", '<path onclick="x()" '), SVG.replace("<path ", '<path style="a" '),
        SVG.replace("url(#a)", "url(http://x)"), SVG.replace("url(#a)", "url(#a) URL(//x)"), SVG.replace("<path ", '<path href="#a" '),
        SVG.replace("path", "foreignObject"), SVG.replace("path", "image"), "<!DOCTYPE svg [<!ENTITY a 'b'>]>" + SVG,
        '<?xml-stylesheet href="x"?>' + SVG, SVG.replace("<path ", '<path xmlns="urn:x" xmlns:x="urn:y" '), SVG + " " * 40_000, SVG.replace("svg", "svg:svg"),
        SVG.replace("<path ", '<path xmlns="http://www.w3.org/1999/xhtml" '),
    ],
)  # fmt: skip
def test_an_icon_with_anything_else_is_not(text: str) -> None:
    assert flaw(text.encode())


# ── who sees what


def _card(groups: str, title: str = "x", order: int = 5) -> dict[str, str]:
    return {"card.yaml": f"title: {title}\ndescription: d\ngroups: {groups}\norder: {order}"}


@pytest.mark.parametrize(
    ("allowed", "sees"),
    [
        ("[]", "none cms cms/a cms-x atlas"),
        ("[cms]", "cms"),
        ("[/cms]", "cms"),
        ("[cms/*]", "cms/a"),
        ("[cms, cms/*]", "cms cms/a"),
        ("['cms*']", "cms cms/a cms-x"),
        ("['*']", "cms cms/a cms-x atlas"),
        ("[cms, atlas]", "cms atlas"),
        ("[CMS]", ""),
    ],
)
def test_cards_are_for_their_groups(allowed: str, sees: str) -> None:
    catalogue = read(files(_card(allowed)))
    groups = {"none": [], "cms": ["cms"], "cms/a": ["cms/a"], "cms-x": ["cms-x"], "atlas": ["lhcb", "atlas"]}
    assert [name for name, known in groups.items() if catalogue.visible_to(known)] == sees.split()


def test_cards_are_shown_by_order_then_title() -> None:
    known = {"a": ("zebra", 1), "b": ("Beta", 5), "c": ("alpha", 5), "d": ("hidden", 0)}
    found = {}
    for name, (title, order) in known.items():
        found |= files(_card("[cms]" if name == "d" else "[]", title, order), name=name)
    assert [card.name for card in read(found).visible_to(["atlas"])] == ["a", "c", "b"]


def test_of_a_card_that_became_bad_the_last_good_state_stays() -> None:
    last = read(files(name="a") | files(name="b") | files(name="gone"))
    bad = {"card.yaml": "title: only"}
    now = read(files(bad, name="a") | files({"card.yaml": CARD + "order: 3"}, name="b") | files(bad, name="new"))
    kept = now.keeping(last)
    assert sorted(kept.cards) == ["a", "b"]
    assert kept.cards["a"] is last.cards["a"]
    assert kept.cards["b"].order == 3
    assert kept.problems == now.problems


# ── the tests that templates carry


def test_a_test_that_expects_what_is_planned_finds_nothing() -> None:
    expect = """nodes:
      server: {kind: machine, count: 3, cpus: 4, memory: 4 GB, disk: 20 GiB, gpus: 0, gpu_model: "", public_ip: true, volumes: [10 GB],
        ports: [443, 53/udp]}
    totals: {machines: 3, containers: 0, cpus: 12, memory: 12 GB, disk: 60 GiB, gpus: 0, public_ips: 3, volumes: 3, volume_size: 30 GB, buckets: 0}
    configured_by: {}
    outputs: [ip]"""
    assert expecting(expect, "{count: 3, cpus: 4}") == []


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ("nodes: {server: {cpus: 3}}", "test.yaml:5: a case: cpus is 2.0, not 3"),
        ("nodes: {server: {memory: 4 GiB}}", "test.yaml:5: a case: memory is 4000000000, not 4 GiB"),
        ("nodes: {server: {memory: lots}}", "test.yaml:5: a case: 'lots' is not a number with a unit"),
        ("nodes: {server: {volumes: [10 GB, 10 GB]}}", "test.yaml:5: a case: volumes is [10000000000], not"),
        ("nodes: {server: {ports: [443]}}", "test.yaml:5: a case: ports is ['443/tcp', '53/udp'], not"),
        ("nodes: {server: {ports: 443}}", "test.yaml:5: a case: ports is"),
        ("nodes: {server: {public_ip: false}}", "test.yaml:5: a case: public_ip is True, not false"),
        ("nodes: {server: {cpu: 2}}", "test.yaml:5: a case: the plan has no 'cpu' here"),
        ("nodes: {server: 1}", "test.yaml:5: a case: server must be a map"),
        ("nodes: {server: {}, worker: {}}", "test.yaml:5: a case: the plan has no 'worker' here"),
        ("nodes: {}", "test.yaml:5: a case: the plan has 'server' too"),
        ("totals: {machines: 2}", "test.yaml:5: a case: machines is 1, not 2"),
        ("totals: {machines: '1'}", "test.yaml:5: a case: machines is 1, not 1"),
        ("configured_by: {jupyter: cloud-init}", "test.yaml:5: a case: the plan has no 'jupyter' here"),
        ("outputs: []", "test.yaml:5: a case: outputs is ['ip'], not []"),
        ("outputs: [ip, url]", "test.yaml:5: a case: outputs is ['ip'], not"),
        ("cost: 3", "test.yaml:5: a case: the plan has no 'cost' here"),
    ],
)  # fmt: skip
def test_a_test_that_expects_something_else_says_what_and_where(expect: str, problem: str) -> None:
    (found,) = expecting(expect)
    assert found.startswith(f"jupyter/1.0.0/{problem}")


def test_inputs_that_do_not_fit_are_the_tests_problem_and_keep_secrets() -> None:
    found = expecting("outputs: [ip]", "{cpus: 99, admin_token: [hush]}")
    assert found == [
        "jupyter/1.0.0/test.yaml:3: a case: must be from 1 to 8",
        "jupyter/1.0.0/test.yaml:3: a case: the value of this secret input is not valid",
    ]


def test_what_cannot_be_planned_is_the_templates_problem() -> None:
    template = TEMPLATE.replace("source: 53", "source: 53, remote_cidr: nowhere")
    catalogue = checked(read(files({"1.0.0/template.yaml": template}) | files(name="other")))
    assert list(catalogue.cards) == ["other"]
    (found,) = told(catalogue)
    assert found.startswith("jupyter/1.0.0/template.yaml:")
    assert "it starts: 'nowhere' is not a network" in found


def test_every_case_of_every_version_is_run() -> None:
    two = "cases: [{name: good, expect: {outputs: [ip]}}, {name: bad, expect: {outputs: []}}]"
    catalogue = read(files({"1.0.1/template.yaml": TEMPLATE, "1.0.1/test.yaml": two, "1.0.0/test.yaml": two}))
    assert [found.problem.path for found in run_tests(catalogue.cards["jupyter"].versions[0])] == [
        "/cases/1/expect/outputs"
    ]
    assert [found.file for found in checked(catalogue).problems] == [
        "jupyter/1.0.1/test.yaml",
        "jupyter/1.0.0/test.yaml",
    ]


def test_a_card_that_is_kept_is_for_those_whom_it_is_for_now() -> None:
    last = read(files(name="jupyter") | files(name="other"))
    broken = files({"card.yaml": CARD + "groups: [atlas]\nicon: ../x"}, name="jupyter") | files(name="other")
    kept = read(broken).keeping(last)
    assert [card.name for card in kept.visible_to({"cms"})] == ["other"]
    assert {card.name for card in kept.visible_to({"atlas"})} == {"jupyter", "other"}
