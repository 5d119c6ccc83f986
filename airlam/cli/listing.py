"""``airlam list``: what there is to name on a command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from airlam.cli import UsageError
from airlam.cli.parsing import Parser
from airlam.methods import known
from airlam.recipes import list_recipes, nearest, recipe_root, shipped_checkpoints


def run(arguments: Sequence[str]) -> None:
    """Prints tables of recipes, checkpoints, predictors and precoders."""
    tables: dict[str, Callable[[], list[tuple[str, str]]]] = {
        "channels": lambda: _recipes("channels"),
        "datasets": lambda: _recipes("datasets"),
        "tasks": lambda: _recipes("tasks"),
        "checkpoints": _checkpoints,
        "predictors": lambda: _methods("predictor", "airlam", "airlam-paths"),
        "precoders": lambda: _methods("precoder", "airlam-precoder"),
    }
    parser = Parser("airlam list", f"Show what can be named: {', '.join(tables)}. Without a kind: everything.")
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    chosen = parser.parse_strictly(arguments).kinds or list(tables)
    for kind in chosen:
        if kind not in tables:
            raise UsageError(f"no kind '{kind}'{nearest(kind, tables) or f'; kinds: {chr(44).join(tables)}'}")

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a pipe has no width: cut nothing that a script may look for
    for kind in chosen:
        rows = tables[kind]()
        table = Table(title=kind, title_justify="left", expand=False)
        table.add_column("name", overflow="fold", min_width=max((len(name) for name, _ in rows), default=0))
        table.add_column("what it is")
        for name, what in rows:
            table.add_row(escape(name), escape(what))
        if rows:
            console.print(table)
        else:
            console.print(f"no {kind} here")
    console.print(f"recipes: the current folder first, then {recipe_root()}", style="dim", soft_wrap=True)


def _recipes(kind: str) -> list[tuple[str, str]]:
    """Shipped recipes and those in the current folder, with the first sentence of their leading comment."""
    root = recipe_root()
    found = {name: root / name for name in list_recipes(kind)}
    found |= {path.as_posix(): path for path in sorted(Path(kind).rglob("*.yaml"))}
    return [(name, _first_comment(path)) for name, path in sorted(found.items())]


def _first_comment(path: Path) -> str:
    words = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("#"):
            break
        words.append(line.lstrip("# "))
    text = " ".join(words)
    for end in (". ", ": ", "; "):
        if 0 < text.find(end) < 110:
            return text[: text.find(end)]
    return text if len(text) <= 110 else text[:107].rsplit(" ", 1)[0] + " ..."


def _checkpoints() -> list[tuple[str, str]]:
    folders = {name: recipe_root() / name for name in list_recipes("checkpoints")}
    folders |= {path.parent.as_posix(): path.parent for path in Path("checkpoints").glob("*/config.json")}
    rows = []
    for name, folder in sorted(folders.items()):
        weights = folder / "model.safetensors"
        size = f"{weights.stat().st_size / 1e6:.1f} MB" if weights.is_file() else "no weights"
        try:
            kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "?")
        except ValueError:
            kind = "config.json is broken"
        rows.append((Path(name).name, f"{kind}, {size}, {name}"))
    return rows


def _methods(role: str, *model_types: str) -> list[tuple[str, str]]:
    """Names that ``load_predictor`` or ``load_precoder`` takes, then those of recipes of benchmarks alone."""
    methods = known(role)
    rows = [(method.name, method.what or method.label) for method in methods if method.factory]
    rows += [(name, "shipped checkpoint") for name in shipped_checkpoints(*model_types)]
    if role == "predictor":
        what = "a checkpoint folder, a folder of adapters or of an exported graph, or a Lightning checkpoint"
        rows.append(("FOLDER or FILE.ckpt", what))
    rows.append(("my_file:MyClass", f"a {role} of your own, from the current folder"))
    computed = [method for method in methods if not method.factory and method.kind != "learned"]
    for method in computed:
        rows.append((method.name, f"in benchmarks only; {method.kind}: {method.label.removesuffix(' (bound)')}"))
    return rows + (_chain_words() if role == "precoder" else [])


def _chain_words() -> list[tuple[str, str]]:
    """What may stand right of the plus in a chain and is no precoder by itself."""
    from airlam.evaluation.report.style import PRECODER_FORMS

    robust = [(name, form.label) for name, form in PRECODER_FORMS.items() if name.startswith("robust ")]
    told = "is told the covariance of the CSI's errors"
    rows = [(name, f"in chains of benchmarks only, like ar + {name}; {label} {told}") for name, label in robust]
    best = "in chains of benchmarks only, like ar + tuned; the best of the classical precoders on other drops"
    rows.append(("tuned", best))
    return rows
