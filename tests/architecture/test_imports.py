"""The arrows between the rooms of airlam, which third-party package may enter which room, and light start-up."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "airlam"

# A room is a module or subpackage right under airlam/. Each may import itself, rooms of COMMON that stand above it in
# this table, and the rooms that are named; those stand above it too. `cli` and `__init__` may use everyone.
COMMON = {"constants", "errors", "io", "progress", "seeds", "csi", "interfaces", "recipes", "methods"}
LEARNING = {"metrics", "baselines", "channels", "data", "models", "tasks", "loading", "resources"}
ALLOWED = {
    "constants": set(),
    "errors": set(),
    "progress": set(),
    "io": {"errors"},
    "seeds": {"io"},
    "csi": {"errors"},
    "interfaces": {"csi", "errors"},
    "recipes": {"errors", "io"},
    "methods": {"errors", "recipes"},  # declarations: listing methods imports neither torch nor any class
    "metrics": {"csi"},
    "baselines": {"csi", "metrics"},
    "channels": {"csi"},
    "data": {"csi", "channels"},
    "models": {"csi", "metrics", "baselines"},  # never channels or data
    "realtime": {"csi", "metrics", "baselines", "models"},
    "tasks": {"csi", "metrics", "models", "baselines"},
    "loading": {"csi", "baselines", "models", "realtime", "tasks"},
    "link": {"csi", "channels", "loading"},
    "resources": {"csi"},
    # Neither edge nor serving: those import evaluation, and a benchmark YAML names its class by class_path.
    "evaluation": LEARNING | {"link", "realtime"},
    "edge": LEARNING | {"evaluation"},
    "serving": LEARNING | {"realtime", "evaluation"},
    "export": {"models", "loading", "data"},
    "testing": {"metrics", "channels", "evaluation"},  # contracts for outside packages, golden runs
}
EVERYTHING = {"cli", "__init__", "__main__"}

# Third-party packages that only these rooms may import (anywhere, also inside functions).
EXCLUSIVE = {
    "h5py": {"data"},
    "pytest": {"testing"},
    "transformers": {"models"},
    "peft": {"models"},
    "sionna": {"channels", "link"},
    "mitsuba": {"channels"},
    "drjit": {"channels"},
    "lightning": {"data", "tasks", "edge", "evaluation", "cli"},
    "matplotlib": {"evaluation"},
    "jinja2": {"evaluation"},
    "ray": {"data", "edge", "serving"},
    "flwr": {"edge"},
    "tensorflow": {"export"},
    "keras": {"export"},
    "litert_torch": {"export"},
    "ai_edge_quantizer": {"export"},
    "ai_edge_litert": {"models"},
    "csiread": {"data"},
    "onnx": {"export", "realtime"},
    "onnxscript": {"export"},
    "onnxruntime": {"export", "models"},  # models runs what export writes
    "openvino": {"realtime"},
    "numba": {"realtime"},
    "fastapi": {"serving"},
    "starlette": {"serving"},
    "uvicorn": {"serving"},
    "httpx": {"serving"},
    "prometheus_client": {"serving"},
}
HEAVY = (
    "torch",
    "lightning",
    "sionna",
    "mitsuba",
    "transformers",
    "peft",
    "h5py",
    "matplotlib",
    "ray",
    "flwr",
    "pandas",
    "scipy",
    "tensorflow",
    "onnx",
    "onnxruntime",
    "fastapi",
    "httpx",
)

SOURCES = sorted(PACKAGE.rglob("*.py"))


def allowed_for(room: str) -> set[str]:
    """Rooms that a room may import besides itself."""
    return ALLOWED[room] if room in COMMON else ALLOWED[room] | COMMON


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def nodes(tree: ast.AST, typing: bool) -> Iterator[ast.AST]:
    """All nodes below ``tree``; without ``typing`` none under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if not typing and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from nodes(other, typing)
        else:
            yield node
            yield from nodes(node, typing)


def imported_modules(path: Path, *, typing: bool = True) -> list[tuple[int, str]]:
    """(line, absolute dotted name) of every import: lazy ones, `from airlam import x` and strings included; those for
    the type checker alone only with ``typing``."""
    package = ("airlam", *path.relative_to(PACKAGE).parent.parts)
    found = []
    for node in nodes(ast.parse(path.read_text(encoding="utf-8")), typing):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.append((node.lineno, node.args[0].value))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_only_what_the_design_allows(path):
    room = room_of(path)
    assert room in ALLOWED or room in COMMON or room in EVERYTHING, f"airlam/{room} is new: give it a row in ALLOWED"
    wrong = []
    for line, name in imported_modules(path):
        top, _, rest = name.partition(".")
        if top == "airlam" and room not in EVERYTHING:
            target = rest.partition(".")[0]
            # `from airlam import X` with X no room (say __version__) is fine.
            allowed = allowed_for(room)
            if target in {*ALLOWED, *EVERYTHING} - {room} and target not in allowed:
                wrong.append(f"{path.name}:{line} imports airlam.{target}; {room} may import {sorted(allowed)}")
        elif room not in EXCLUSIVE.get(top, {room}):
            wrong.append(f"{path.name}:{line} imports {name}; only {sorted(EXCLUSIVE[top])} may import {top}")
    assert not wrong, "\n".join(wrong)


def test_every_arrow_of_the_table_points_up():
    order = list(ALLOWED)
    wrong = [(room, to) for room in order for to in allowed_for(room) if order.index(to) >= order.index(room)]
    assert not wrong, f"these rooms stand below the room that may import them: {wrong}"


def dotted(path: Path) -> str:
    parts = ("airlam", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def module_graph() -> dict[str, set[str]]:
    """module of airlam -> modules of airlam that it imports, also inside functions; not for the type checker alone."""
    known = {dotted(path): path for path in SOURCES}
    graph = {}
    for module, path in known.items():
        graph[module] = set()
        for _, name in imported_modules(path, typing=False):
            while name and name not in known:
                name = name.rpartition(".")[0]
            graph[module] |= {name} - {"", module}
    return graph


def circle_of(graph: dict[str, set[str]]) -> list[str]:
    """One circle of imports, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def test_no_circle_between_modules():
    graph = module_graph()
    assert sum(map(len, graph.values())) > len(graph)  # it sees imports at all
    circle = circle_of(graph)
    assert not circle, f"modules import each other in a circle, lazy imports included: {' -> '.join(circle)}"


def test_the_search_for_circles_finds_one(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("a.py", "b.py", "c.py")]
    texts = (
        "from airlam import b",
        "def f():\n    from airlam.c import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import airlam.a",
    )
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    monkeypatch.setitem(globals(), "SOURCES", paths)
    assert circle_of(module_graph()) == []
    paths[2].write_text("def f():\n    import airlam.a")
    assert sorted(set(circle_of(module_graph()))) == ["airlam.a", "airlam.b", "airlam.c"]


def test_the_rule_itself_finds_every_way_to_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    path = tmp_path / "models" / "backbone.py"
    path.parent.mkdir()
    path.write_text(
        "import airlam.data\nfrom airlam import channels\nfrom ..data.store import x\n"
        "def f():\n    from . import tokens\n    import_module('airlam.cli')\n"
    )
    assert [name for _, name in imported_modules(path)] == [
        "airlam.data",
        "airlam.channels",
        "airlam.data.store.x",
        "airlam.models.tokens",
        "airlam.cli",
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_errors_are_imported_from_their_own_module(path):
    """``airlam.interfaces`` only hands them on to users."""
    if path == PACKAGE / "interfaces.py":
        return
    for node in nodes(ast.parse(path.read_text(encoding="utf-8")), typing=True):
        if isinstance(node, ast.ImportFrom) and node.module == "airlam.interfaces":
            wrong = [alias.name for alias in node.names if alias.name.endswith("Error")]
            assert not wrong, f"line {node.lineno}: import {', '.join(wrong)} from airlam.errors"


def run_python(code: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)


LOADED = f"import sys; print([name for name in {HEAVY!r} if name in sys.modules])"


def test_import_airlam_loads_nothing_heavy(tmp_path):
    result = run_python(f"import airlam; dir(airlam); {LOADED}", tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_help_is_quick_and_loads_nothing_heavy(tmp_path):
    code = (
        f"import sys, atexit; atexit.register(lambda: exec({LOADED!r})); from airlam.cli import main; main(['--help'])"
    )
    seconds = []
    for _ in range(3):  # the best of three: other test processes share the cores
        start = time.perf_counter()
        result = run_python(code, tmp_path)
        seconds.append(time.perf_counter() - start)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines()[-1] == "[]"
    assert min(seconds) < 2.0, f"airlam --help took {min(seconds):.2f} s; something heavy is imported early"


def test_datasets_folder_is_not_importable(tmp_path):
    # transformers asks find_spec("datasets"); our top-level folder must never answer, also in an editable install.
    code = "import airlam, importlib.util; spec = importlib.util.find_spec('datasets')\n"
    code += "print(spec and list(spec.submodule_search_locations))"
    result = run_python(code, tmp_path)
    assert result.returncode == 0, result.stderr
    assert str(PACKAGE.parent) not in result.stdout
