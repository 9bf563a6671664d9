"""Check the limits that keep modules readable: 400 lines a module, 40 a function, nesting of 3, and no TODO without an issue."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE, FUNCTION, NESTING = 400, 40, 3
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.Match)  # `with` opens no branch
TODO = re.compile(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))")


def main() -> int:
    """Print every place over a limit; return 1 if there is one."""
    problems = [
        p for folder in ("libs", "services") for file in sorted((ROOT / folder).rglob("*.py")) for p in check(file)
    ]
    print("\n".join(problems) or "sizes: all within the limits")
    return bool(problems)


def check(file: Path) -> list[str]:
    text, name = file.read_text(), file.relative_to(ROOT)
    found = [f"{name}:1: {n} lines, at most {MODULE}" for n in [text.count("\n")] if n > MODULE]
    found += [f"{name}:{i}: TODO without an issue" for i, line in enumerate(text.splitlines(), 1) if TODO.search(line)]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1] if len(node.body) > 1 and ast.get_docstring(node) else node.body[0]
            lines = (node.end_lineno or 0) - first.lineno + 1
            if lines > FUNCTION:
                found.append(f"{name}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION}")
            if (deep := nesting(node)) > NESTING:
                found.append(f"{name}:{node.lineno}: {node.name} nests {deep} deep, at most {NESTING}")
    return found


def nesting(node: ast.AST, depth: int = 0) -> int:
    """Return how deep blocks nest; an `elif` is no deeper than its `if`."""
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, nesting(child, depth + (isinstance(child, BLOCKS) and not is_elif)))
    return deepest


if __name__ == "__main__":
    sys.exit(main())
