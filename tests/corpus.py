"""Where the public templates are that some tests read, on a machine that has them; they are no part of the project."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
CORPUS = Path(os.environ.get("INDACO_CORPUS") or REPOSITORY.parent / "shared" / "corpus") / "tosca"
ABSENT = "corpus: the public templates are not here (INDACO_CORPUS)"
