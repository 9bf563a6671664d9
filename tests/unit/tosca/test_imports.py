"""Imports are names that a resolver may know; nothing is ever fetched."""

import json

import pytest

from indaco_tosca import TemplateError, parse

TYPES = "https://types.example.org/site/site_types.yaml"


def library(**sections):
    return json.dumps({"tosca_definitions_version": "tosca_simple_yaml_1_3", **sections})


def test_a_resolver_provides_types(template):
    text = library(node_types={"site.Machine": {"derived_from": "tosca.nodes.indigo.Compute"}})
    parsed = parse(template(imports=[TYPES], nodes={"m": {"type": "site.Machine"}}), resolve={TYPES: text}.get)
    assert parsed.types.node("site.Machine").derives_from("tosca.nodes.Compute")


def test_imports_of_imports_resolve_against_the_importer_and_may_import_each_other(template):
    texts = {
        TYPES: library(imports=["base.yaml"], node_types={"site.B": {"derived_from": "site.A"}}),
        "https://types.example.org/site/base.yaml": library(
            imports=[TYPES], node_types={"site.A": {"derived_from": "tosca.nodes.Compute"}}
        ),
    }
    parsed = parse(template(imports=[TYPES], nodes={"m": {"type": "site.B"}}), resolve=texts.get)
    assert parsed.types.node("site.B").lineage[:2] == ("site.B", "site.A")


def test_two_closures_that_define_a_name_differently_do_not_see_each_other(template):
    def lineage(parent):
        text = library(node_types={"site.X": {"derived_from": parent}})
        parsed = parse(template(imports=[TYPES], nodes={"m": {"type": "site.X"}}), resolve={TYPES: text}.get)
        return parsed.types.node("site.X").lineage[1]

    assert lineage("tosca.nodes.Compute") == "tosca.nodes.Compute"
    assert lineage("tosca.nodes.BlockStorage") == "tosca.nodes.BlockStorage"


@pytest.mark.parametrize(
    "imports",
    [
        [TYPES],
        [{"site": TYPES}],
        [{"file": TYPES}],
        [{"site": {"file": TYPES}}],
        {"site": TYPES},
        TYPES,
        {"file": "site_types.yaml", "repository": "here"},
        {"file": TYPES},
        [{"site": {"file": "site_types.yaml", "repository": "here"}}],
    ],
)
def test_every_form_of_import_in_use_is_read(imports, template):
    asked = []
    parse(
        template(imports=imports, repositories={"here": {"url": "https://types.example.org/site/"}}),
        resolve=lambda name: asked.append(name) or library(),
    )
    assert asked == [TYPES]


def test_a_known_file_name_stands_for_the_bundled_types_and_another_is_a_warning(template):
    known = "https://raw.githubusercontent.com/indigo-dc/tosca-types/master/custom_types.yaml"
    assert parse(template(imports=[known])).warnings == ()
    assert [problem.code for problem in parse(template(imports=[TYPES])).warnings] == ["import-unresolved"]


def test_a_type_of_an_import_that_is_not_here_is_unknown_and_the_hint_says_why(template):
    with pytest.raises(Exception, match=r"site\.Machine") as raised:
        parse(template(imports=[TYPES], nodes={"m": {"type": "site.Machine"}}))
    assert TYPES in raised.value.problems[0].hint


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "../outside.yaml", "a/../../b.yaml", "file:///etc/passwd", "ftp://example.org/x.yaml",
        "http://127.0.0.1:8000/x", "http://localhost/x", "https://169.254.169.254/latest", "https://[::1]/x",
        "https://2130706433/x", "https://127.1/x", "https://vault.internal/x", "//10.0.0.1/x",
        "https://user:password@example.org/x", "a\0b.yaml", "https://example.org/a\nb.yaml", "x\x85.yaml",
        "https://example.org/" + "x" * 2048,
    ],
)  # fmt: skip
def test_an_import_that_could_reach_inside_is_refused_before_the_resolver_is_asked(name, template, problems):
    def resolve(asked):
        raise AssertionError(f"asked for {asked}")

    assert "import-not-allowed" in problems(parse, template(imports=[name]), resolve=resolve).values()


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        ({}, "import-unresolvable"),
        ({"site.yaml": "a: ["}, "import-not-readable"),
        ({"site.yaml": "#" * 1024 * 1025}, "import-not-readable"),
        ({"site.yaml": library(imports=[f"n{n}.yaml" for n in range(30)])}, "too-many-imports"),
    ],
)
def test_an_import_that_cannot_be_used_is_an_error(texts, code, template, problems):
    resolve = lambda name: texts.get(name) or (library() if name.startswith("n") else None)  # noqa: E731
    assert code in problems(parse, template(imports=["site.yaml"]), resolve=resolve).values()


def test_a_chain_of_imports_has_an_end(template, problems):
    def resolve(name):
        return library(imports=[f"https://example.org/{int(name.rsplit('/', 1)[-1]) + 1}"])

    assert "too-many-imports" in problems(parse, template(imports=["https://example.org/1"]), resolve=resolve).values()


def test_credentials_of_an_import_are_not_repeated(template, problems):
    with pytest.raises(TemplateError) as raised:
        parse(template(imports=["https://ada:hunter2@types.example.org/a.yaml"]))
    [problem] = raised.value.problems
    assert problem.code == "import-not-allowed"
    assert "hunter2" not in problem.message
    assert "types.example.org" in problem.message


@pytest.mark.parametrize(
    ("imports", "path"),
    [
        (5, "/imports"),
        ([5], "/imports/0"),
        ([None], "/imports/0"),
        ([["a"]], "/imports/0"),
        ([{"x": 5}], "/imports/0/x"),
        ({"x": None}, "/imports/x"),
        ([{"repository": "r"}], "/imports/0"),
    ],
)
def test_what_is_no_import_is_refused_and_not_left_out(imports, path, template, problems):
    assert problems(parse, template(imports=imports)) == {path: "bad-structure"}


def test_the_shapes_of_imports_in_imports_are_told_with_the_name_of_the_text(template):
    with pytest.raises(TemplateError) as raised:
        parse(template(imports=[TYPES]), resolve={TYPES: library(imports=[5])}.get)
    [problem] = raised.value.problems
    assert (problem.path, problem.code) == ("/imports/0", "bad-structure")
    assert TYPES in problem.message


@pytest.mark.parametrize("repositories", [{}, {"nope": {}}, {"nope": {"url": 5}}])
def test_a_repository_that_is_not_there_is_refused(repositories, template, problems):
    imports = [{"file": "a.yaml", "repository": "nope"}]
    found = problems(parse, template(imports=imports, repositories=repositories))
    assert found == {"/imports/0": "unknown-repository"}


def test_control_characters_do_not_get_lost_where_an_import_is_joined_with_its_base(template, problems):
    texts = {TYPES: library(imports=["a\nb.yaml"])}
    assert problems(parse, template(imports=[TYPES]), resolve=texts.get) == {"/imports/0": "import-not-allowed"}
