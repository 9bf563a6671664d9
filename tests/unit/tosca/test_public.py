"""The package itself: its names, which are imported when they are asked for, and the program that it is."""

import json
import subprocess
import sys

import pytest

import indaco_tosca


def test_every_public_name_is_there():
    assert all(getattr(indaco_tosca, name) is not None for name in indaco_tosca.__all__)


def test_another_name_is_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'parsed'"):
        _ = indaco_tosca.parsed


@pytest.mark.parametrize(("text", "code"), [("", 1), (None, 0)])
def test_the_program_prints_json_and_tells_by_its_code_whether_the_template_is_fine(text, code, template, tmp_path):
    file = tmp_path / "template.yaml"
    file.write_text(template() if text is None else text)
    done = subprocess.run([sys.executable, "-m", "indaco_tosca", "expect", file], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (code, b"")
    assert json.loads(done.stdout)
