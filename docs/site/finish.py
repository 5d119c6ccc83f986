"""Finish a built site and check it: ``python docs/site/finish.py build/site``.

Formulas become MathML, which browsers show without a script. Names such as ``airlam.csi.measure`` in the text become
links to the API reference. Then every link inside the site must lead to a page and a heading that exist, and no page
may load anything from elsewhere; links to other sites are not followed.
"""

from __future__ import annotations

import html
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', flags=re.S)
NAME = re.compile(r"<code>(airlam(?:\.\w+)+)(\(\))?</code>")
LINKED = re.compile(r"(<a\s.*?</a>|<pre.*?</pre>|<h[1-6].*?</h[1-6]>)", flags=re.S)  # names in these stay as they are
API_ID = re.compile(r'\sid="(airlam(?:\.\w+)+)"')
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


def finish(site: Path) -> int:
    """Change every page of a built site in place.

    Returns:
        The number of pages.
    """
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(site.rglob("*.html"))}
    places = {name: path for path, text in pages.items() if path.parent.name == "api" for name in API_ID.findall(text)}
    for path, text in pages.items():
        path.write_text(with_names(with_formulas(text), path, places), encoding="utf-8")
    return len(pages)


def with_formulas(text: str) -> str:
    r"""A page whose formulas are MathML.

    Example:
        >>> with_formulas(r'<span class="arithmatex">\(x &lt; y\)</span>').count("<mi>")
        2
    """
    return FORMULA.sub(
        lambda found: convert(html.unescape(found[3]), display="block" if found[2] == "[" else "inline"), text
    )


def with_names(text: str, path: Path, places: dict[str, Path]) -> str:
    """A page whose names of classes and functions are links, where the reference has them.

    Args:
        path: of the page. places: name -> page of the reference.
    """

    def link(found: re.Match) -> str:
        if (name := found[1]) not in places:
            return found[0]
        return f'<a href="{os.path.relpath(places[name], path.parent)}#{name}">{found[0]}</a>'

    parts = LINKED.split(text)
    parts[::2] = [NAME.sub(link, part) for part in parts[::2]]
    return "".join(parts)


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.anchors |= {found[key] for key in ("id", "name") if key in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag in LOADING and LOADING[tag] in found and found.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(found[LOADING[tag]])


def problems(site: Path) -> list[str]:
    """Links of a site that lead nowhere, and what its pages load from elsewhere; one line each."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(site.rglob("*.html"))}
    pages = {path: Page(text) for path, text in texts.items()}
    left = re.compile(r'class="arithmatex"|:(?:math|func|class|meth|mod|attr|data):')
    found = [
        f"{p.relative_to(site)}: {m[0]} was not turned into HTML"
        for p, text in texts.items()
        if p.relative_to(site).parts[0] != "files"  # listings of source files
        for m in [left.search(text)]
        if m
    ]
    for path, page in pages.items():
        if path.name == "404.html":  # its links are absolute, for a server
            continue
        where = path.relative_to(site)
        found += [f"{where}: loads {url} from elsewhere" for url in page.loads if urlsplit(url).netloc]
        for url in [*page.links, *page.loads]:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            to = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            to = to / "index.html" if to.is_dir() else to
            if not to.is_file():
                found.append(f"{where}: {url} leads nowhere")
            elif parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].anchors | {"__skip"}:
                found.append(f"{where}: {url}: no such heading")
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    if not (count := finish(folder)):
        sys.exit(f"error: {folder} holds no page; build the site first: make docs")
    if broken := problems(folder):
        sys.exit("\n".join([*broken, f"error: {len(broken)} links of {count} pages are broken; correct them"]))
    print(f"{folder}/index.html: {count} pages, every link leads somewhere")
