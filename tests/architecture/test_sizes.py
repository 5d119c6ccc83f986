"""Files and classes that a reader can take in at once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "airlam"
FILE_LINES = 400
CLASS_LINES = 200

# Larger ones that are still to be split. The lists only shrink: a name that is no longer needed fails the test.
LARGE_FILES: set[str] = set()
LARGE_CLASSES: set[str] = set()


def sizes_of_files() -> dict[str, int]:
    return {p.relative_to(PACKAGE).as_posix(): len(p.read_text("utf-8").splitlines()) for p in PACKAGE.rglob("*.py")}


def sizes_of_classes() -> dict[str, int]:
    return {
        f"{path.relative_to(PACKAGE).as_posix()}:{node.name}": node.end_lineno - node.lineno + 1
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
    }


@pytest.mark.parametrize(
    ("measure", "limit", "exceptions"),
    [(sizes_of_files, FILE_LINES, LARGE_FILES), (sizes_of_classes, CLASS_LINES, LARGE_CLASSES)],
    ids=["files", "classes"],
)
def test_sizes(measure, limit, exceptions):
    large = {name: size for name, size in measure().items() if size > limit}
    new = {name: size for name, size in large.items() if name not in exceptions}
    assert not new, f"above {limit} lines, so it wants to be two: {new}"
    gone = sorted(exceptions - large.keys())
    assert not gone, f"no longer above {limit} lines; strike them from the list of exceptions: {gone}"
