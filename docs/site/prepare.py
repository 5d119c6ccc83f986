"""Collect the pages of the site in one folder, ``build/docs``: ``python -P docs/site/prepare.py``.

``mkdocs.yml`` names that folder. It holds the pages of ``docs/``, README, CONTRIBUTING, CHANGELOG, the model cards, the
notebooks as pages, a page of API reference for each room, and a page for each other file that one of them links to.
Links are changed to lead to these pages; the files in the repository stay as they are.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "docs"
FENCE = re.compile(r"(^```.*?^```[ ]*$)", flags=re.M | re.S)
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)#\s]+)?(#[^)\s]*)?\)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json", ".cff": "yaml"}
# module -> what its page is called; each becomes api/<module without airlam.>.md
ROOMS = {
    "airlam.loading": "Loading methods by name",
    "airlam.interfaces": "Interfaces",
    "airlam.csi": "CSI: axes, transforms, measurement",
    "airlam.metrics": "Metrics",
    "airlam.methods": "Registry of methods",
    "airlam.baselines": "Classical methods and bounds",
    "airlam.channels": "Channels",
    "airlam.data": "Data sets",
    "airlam.models": "Models",
    "airlam.tasks": "Training tasks",
    "airlam.realtime": "Slot by slot",
    "airlam.link": "Coded link",
    "airlam.resources": "Devices, radio links, energy",
    "airlam.evaluation": "Evaluation",
    "airlam.edge.federated": "Federated training",
    "airlam.edge.parallel": "Training on several devices",
    "airlam.serving": "Services",
    "airlam.export": "Export",
    "airlam.recipes": "Recipes",
    "airlam.testing": "Contract tests for your own methods",
}


def pages() -> dict[Path, str]:
    """Source file -> its page in ``OUT``."""
    found = {path: path.name for path in sorted((ROOT / "docs").glob("*.md"))}
    found[ROOT / "docs" / "index.md"] = "contents.md"
    found[ROOT / "docs" / "site" / "home.md"] = "index.md"
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        found[ROOT / name] = name.lower()
    found |= {
        path: f"models/{path.parent.name}.md" for path in sorted((ROOT / "checkpoints").glob("airlam-*/README.md"))
    }
    found |= {path: f"notebooks/{path.stem}.md" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    return found


def api_pages() -> dict[str, str]:
    """Page -> text: what mkdocstrings fills in from the docstrings of a room."""
    head = "# {title}\n\n::: {module}\n    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n"
    return {f"api/{module.removeprefix('airlam.')}.md": head.format(title=title, module=module)
            for module, title in ROOMS.items()}  # fmt: skip


def text_of(source: Path) -> str:
    """The Markdown of a page; notebooks are turned into it, other files are shown as code."""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".md":
        home = source.parent.name == "site"
        return text if home else re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)  # metadata of a model card
    if source.suffix == ".ipynb":
        return "\n\n".join(cells_of(json.loads(text))) + "\n"
    language = LANGUAGES.get(source.suffix, "text")
    return f"# {source.relative_to(ROOT)}\n\n````{language}\n{text.rstrip()}\n````\n"


def cells_of(notebook: dict) -> Iterator[str]:
    """Each cell of a notebook as Markdown; outputs are not stored in the repository."""
    for cell in notebook["cells"]:
        text = "".join(cell["source"]).rstrip()
        if cell["cell_type"] == "markdown":
            yield text
        elif cell["cell_type"] == "code" and text:
            yield f"```python\n{text}\n```"


def write_pages() -> int:
    """Write all pages, those of linked files too.

    Returns:
        Their number.

    Raises:
        FileNotFoundError: a page links to a file that does not exist.
    """
    shutil.rmtree(OUT, ignore_errors=True)
    known = pages()
    waiting = list(known)
    while waiting:
        source = waiting.pop()
        page = known[source]
        parts = FENCE.split(text_of(source)) if source.suffix in (".md", ".ipynb") else ["", text_of(source)]
        for place in range(0, len(parts), 2):  # odd parts are fenced code
            parts[place] = LINK.sub(
                lambda found, page=page, source=source: relink(found, source, page, known, waiting), parts[place]
            )
        write(page, "".join(parts))
    for page, text in api_pages().items():
        write(page, text)
    shutil.copytree(ROOT / "docs" / "images", OUT / "images")
    shutil.copytree(ROOT / "docs" / "site" / "assets", OUT / "assets")
    return len(known) + len(ROOMS)


def relink(found: re.Match, source: Path, page: str, known: dict[Path, str], waiting: list[Path]) -> str:
    """One link of a page, changed to lead to a page; a link to a folder becomes its text."""
    text, target, anchor = found[1], found[2], found[3] or ""
    if not target or "://" in target or target.startswith("mailto:"):
        return found[0]
    if target in api_pages():  # of the home page
        return f"{text}({os.path.relpath(target, Path(page).parent)}{anchor})"
    path = Path(os.path.normpath(source.parent / target))
    if not path.exists():
        raise FileNotFoundError(f"{source.relative_to(ROOT)} links to {target}, which does not exist; correct the link")
    if path.is_dir():
        return text.strip("[]")
    if path.suffix == ".png":
        to = str(path.relative_to(ROOT / "docs"))
    else:
        if path not in known:
            known[path] = f"files/{path.relative_to(ROOT)}.md"
            waiting.append(path)
        to = known[path]
    return f"{text}({os.path.relpath(to, Path(page).parent)}{anchor})"


def write(page: str, text: str) -> None:
    path = OUT / page
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    print(f"{write_pages()} pages in {OUT.relative_to(ROOT)}")
