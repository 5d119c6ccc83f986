"""The site of the documentation: what is collected, what is checked. ``make docs`` builds it, CI with both builders."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def script(name: str) -> ModuleType:
    """A file of docs/site as a module."""
    spec = importlib.util.spec_from_file_location(f"site_{name}", ROOT / "docs" / "site" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prepare = script("prepare")


def named(entries) -> list[str]:
    """The pages of a navigation, in their order."""
    if isinstance(entries, str):
        return [entries]
    values = entries if isinstance(entries, list) else entries.values()
    return [page for entry in values for page in named(entry)]


def test_every_page_is_once_in_the_navigation():
    nav = named(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(nav) == sorted([*prepare.pages().values(), *prepare.api_pages()])


def test_every_room_with_public_names_has_a_page():
    """A package that lists what it exports is in the reference, or one below it that does is."""
    files = [path for path in (ROOT / "airlam").rglob("__init__.py") if path.parent != ROOT / "airlam"]
    listing = {path for path in files if "\n__all__" in path.read_text(encoding="utf-8")}
    rooms = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in listing
        if len(path.parent.parts) <= len(ROOT.parts) + 2
    }
    assert not rooms - set(prepare.ROOMS)


def test_links_of_collected_pages_lead_to_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "OUT", tmp_path / "docs")
    prepare.write_pages()
    pages = list((tmp_path / "docs").rglob("*.md"))
    assert len(pages) > 60
    broken = []
    for page in pages:
        if "files" in page.relative_to(tmp_path / "docs").parts:
            continue
        text = "".join(prepare.FENCE.split(page.read_text(encoding="utf-8"))[::2])
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", re.sub(r"`[^`\n]*`", "", text)):
            if "://" not in target and not (page.parent / target).is_file():
                broken.append(f"{page.name} -> {target}")
    assert not broken
    assert (
        "![" in (tmp_path / "docs" / "readme.md").read_text()
        and "(images/nmse" in (tmp_path / "docs" / "readme.md").read_text()
    )
    assert (tmp_path / "docs" / "models" / "airlam-tiny.md").read_text().startswith("\n# airlam-tiny")


def test_a_link_to_nothing_stops_the_collection(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("[gone](gone.md)")
    for name, value in (("ROOT", tmp_path), ("OUT", tmp_path / "out"), ("pages", lambda: {page: "page.md"})):
        monkeypatch.setattr(prepare, name, value)
    with pytest.raises(FileNotFoundError, match="page.md links to gone.md, which does not exist"):
        prepare.write_pages()


def test_checker_finds_what_is_broken(tmp_path):
    pytest.importorskip("latex2mathml", reason="extra docs")
    finish = script("finish")
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "csi.html").write_text('<h2 id="airlam.csi.measure">measure</h2>')
    (tmp_path / "index.html").write_text(
        '<p id="top"><code>airlam.csi.measure()</code> <code>airlam.no.such</code></p><a href="gone.html">x</a>'
        '<a href="api/csi.html#none">y</a><a href="#top">z</a><img src="https://example.org/a.png">'
        '<span class="arithmatex">\\(a &lt; \\frac{1}{2}\\)</span><pre><code>airlam.csi.measure</code></pre>'
    )
    assert finish.finish(tmp_path) == 2
    text = (tmp_path / "index.html").read_text()
    assert '<a href="api/csi.html#airlam.csi.measure"><code>airlam.csi.measure()</code></a>' in text
    assert text.count("<a href=") == 4  # not the unknown name, not the one in <pre>
    assert "<mfrac>" in text and "arithmatex" not in text
    (tmp_path / "index.html").write_text(text + "<p>:math:</p>")
    assert finish.problems(tmp_path) == [
        "index.html: :math: was not turned into HTML",
        "index.html: loads https://example.org/a.png from elsewhere",
        "index.html: gone.html leads nowhere",
        "index.html: api/csi.html#none: no such heading",
    ]


def test_docstrings_show_roles_as_names_and_doctests_as_examples():
    pytest.importorskip("griffe", reason="extra docs")
    shown = script("docstrings").for_markdown("See :meth:`~airlam.A.b`.\n\nExample:\n    >>> 1\n    1\n")
    assert shown == "See `airlam.A.b`.\n\nExamples:\n    >>> 1\n    1\n"
