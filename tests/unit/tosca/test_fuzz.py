"""A short run of the fuzzer; ten minutes of it are for whoever changes the parser: ``python scripts/fuzz_tosca.py``."""

import subprocess
import sys

import pytest
from tests.corpus import REPOSITORY


def test_twenty_seconds_of_fuzzing_find_nothing():
    pytest.importorskip("atheris", reason="atheris has no build for this Python or system")
    command = [sys.executable, "scripts/fuzz_tosca.py", "--seconds", "20"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "nothing" in done.stdout + done.stderr
