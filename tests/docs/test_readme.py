"""The README's commands and code work as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    ((?:make|airlam) .*?)(?:\s+#.*)?$", README, flags=re.M)


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    named = {target for command in COMMANDS for target in re.findall(r"make ([a-z-]+)", command)}
    assert {"demo", "test"} <= named <= targets


def test_recipes_named_exist():
    named = {path for command in COMMANDS for path in re.findall(r"\S+\.yaml", command)}
    assert named
    assert not [path for path in named if not (ROOT / path).is_file()]


def figures_of_rows(text: str) -> list[tuple[str, ...]]:
    """The cells behind the label of every table row, without emphasis."""
    rows = [line.strip("| ").split("|") for line in text.splitlines() if re.match(r"\| .*\d", line)]
    return [tuple(cell.strip(" *") for cell in row[1:]) for row in rows]


def test_results_are_those_of_the_benchmarks_page():
    (results,) = re.findall(r"<!-- results:begin -->(.*?)<!-- results:end -->", README, flags=re.S)
    header, *rows = figures_of_rows(results)
    page = figures_of_rows((ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8"))
    assert len(rows) >= 4 and header in page
    assert not [row for row in rows if row not in page]


def test_index_of_the_documentation_is_complete():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert not [page for page in pages if f"({page})" not in index]


def test_one_version_everywhere():
    import airlam

    assert f"\nversion: {airlam.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.slow
def test_python_code_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.M | re.S)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.count(" dB") == 4
