"""Reading YAML: the semantics of 1.1, positions and limits."""

import pytest

from indaco_tosca import TemplateError
from indaco_tosca.load import MAX_BYTES, load
from indaco_tosca.scalars import source_text


def refusal(text, **options):
    with pytest.raises(TemplateError) as raised:
        load(text, **options)
    return raised.value.problems[0]


def test_words_of_yaml_1_1_are_booleans_and_dates_and_clock_times_stay_text():
    value = load("[yes, No, ON, true, 2024-01-01, 22:22, ~, '', .inf]").value
    assert value == [True, False, True, True, "2024-01-01", "22:22", None, "", ".inf"]


def test_numbers_are_read_as_yaml_1_1_has_them():
    assert load("[10, -3, 0x1F, 0b101, 017, 1_000, 2.5, .5, 1e3, 08]").value == [
        10, -3, 31, 5, 15, 1000, 2.5, 0.5, "1e3", "08",
    ]  # fmt: skip


def test_a_version_keeps_its_trailing_zero():
    value = load("20.10").value
    assert (value, source_text(value)) == (20.1, "20.10")


def test_quoted_and_tagged_scalars_stay_text():
    assert load("['yes', \"10\", !!str 20, ! 30]").value == ["yes", "10", "20", "30"]


def test_merge_keys_fill_in_what_the_mapping_does_not_say():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc:\n  y: 4\n  <<: [*a, {z: 5}]\n"
    value = load(text).value
    assert value["b"] == {"x": 1, "y": 3}
    assert value["c"] == {"x": 1, "y": 4, "z": 5}


def test_a_quoted_merge_key_is_a_key_like_others():
    assert load('{"<<": 1, a: <<}').value == {"<<": 1, "a": "<<"}


def test_a_path_leads_to_its_line_and_column():
    document = load("a:\n  b:\n    - c\n    - d: 1\n")
    assert document.locate(("a", "b", 1, "d")) == (4, 7)
    assert document.locate(("a", "nothing")) == (1, 1)


def test_of_a_key_given_twice_the_last_value_counts_and_its_place_is_told():
    document = load("a: 1\nb: [{c: 2}, {c: 3,\n c: 4}]\na: 5\n")
    assert document.value == {"a": 5, "b": [{"c": 2}, {"c": 4}]}
    found = [(problem.code, problem.path, problem.line, problem.column) for problem in document.duplicates]
    assert found == [("duplicate-key", "/b/1/c", 3, 2), ("duplicate-key", "/a", 4, 1)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"a: \xff\xfe", "not-utf-8"),
        ("a: \ud800", "not-utf-8"),
        ("a: [", "yaml-syntax"),
        ("a: \x00", "yaml-syntax"),
        ("", "empty-document"),
        ("a: 1\n---\nb: 2\n", "several-documents"),
        ("a: !!python/object/apply:os.system [x]", "unknown-tag"),
        ("a: !custom x", "unknown-tag"),
        ("? [a, b]\n: c", "key-not-text"),
        ("a: *nothing", "unknown-alias"),
        ("a: &a [*a]", "recursive-alias"),
        ("a: {<<: 3}", "bad-merge"),
        ("a: 1\n" * 102, "too-many-duplicates"),
        ("[" * 65 + "]" * 65, "too-deep"),
        ("a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 40 + "*a" + "]" * 40, "too-deep"),
        ("- x\n" * 50_001, "too-many-nodes"),
        ("#" * (MAX_BYTES + 1), "document-too-large"),
    ],
)
def test_text_that_is_not_a_safe_document_is_refused(text, code):
    assert refusal(text).code == code


def test_aliases_count_as_what_they_stand_for():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert refusal("\n".join(levels)).code == "too-many-nodes"


def test_a_byte_order_mark_is_no_part_of_the_text():
    assert load(b"\xef\xbb\xbfa: 1").value == {"a": 1}
