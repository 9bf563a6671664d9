"""``python -m indaco_tosca expect``: what it prints, and that no file makes it fail."""

import json

import pytest

from indaco_tosca import parse
from indaco_tosca.expect import expect
from indaco_tosca.program import main

POLICY = {"where": {"type": "tosca.policies.indigo.SlaPlacement", "properties": {"sla_id": "@"}}}


@pytest.fixture
def run(template, tmp_path, capsys):
    """Run the command on a template with these imports and, if any, this table; the result is the exit code and the JSON."""

    def run(imports=("indigo.yaml",), table=None):
        file = tmp_path / "template.yaml"
        file.write_text(template().replace('["indigo.yaml", "indaco.yaml"]', json.dumps(list(imports))))
        more = []
        if table is not None:
            (tmp_path / "IMPORTS.tsv").write_text(table)
            more = ["--imports", str(tmp_path / "IMPORTS.tsv")]
        code = main(["expect", str(file), *more])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("name", ["a\0b.yaml", "n" * 400 + ".yaml", "/".join(["n" * 200] * 30)])
def test_a_name_that_no_file_can_have_is_an_import_that_is_not_there(name, run):
    code, problems = run(["indigo.yaml", name])
    assert (code, [problem["path"] for problem in problems]) == (1, ["/imports/1"])


def test_a_row_without_a_file_says_nothing(run):
    table = (
        "import_url\tlocal_path\nhttps://example.org/a\nhttps://example.org/b\t\n\tx\nhttps://example.org/c\tc.yaml\n"
    )
    code, found = run(table=table)
    assert code == 0
    assert found["nodes"] == {"server": "tosca.nodes.indigo.Compute"}


def test_a_table_that_cannot_be_read_is_refused(run):
    code, (problem,) = run(table="import_url\tlocal_path\n" + "x" * 140_000 + "\ty\n")
    assert (code, problem["code"]) == (1, "bad-file")
    assert "is not a table" in problem["message"]


def test_what_is_not_finite_is_text(template):
    text = template(policies=[POLICY]).replace('"@"', "1.0e999")
    found = json.loads(json.dumps(expect(parse(text), {}), allow_nan=False))
    assert found["policies"][0]["properties"] == {"sla_id": "1.0e999"}
