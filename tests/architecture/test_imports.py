"""The arrows between the rooms of airlam, which third-party package may enter which room, and light start-up."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "airlam"

# A room is a module or subpackage right under airlam/. Every room above the ground floor may use COMMON; `cli` and
# `__init__` may use everyone.
COMMON = {"constants", "errors", "io", "progress", "seeds", "csi", "interfaces", "recipes", "methods"}
ALLOWED = {
    "constants": set(),
    "errors": set(),
    "io": {"errors"},
    "progress": set(),
    "seeds": {"io"},
    "recipes": {"errors", "io"},
    "methods": {"errors", "recipes"},
    "csi": {"errors"},
    "interfaces": {"csi", "errors"},
    "metrics": {"csi"},
    "baselines": {"csi", "metrics"},
    "channels": {"csi"},
    "data": {"csi", "channels"},
    "models": {"csi", "metrics", "baselines"},  # never channels or data
    "tasks": {"csi", "metrics", "models", "baselines"},
    "loading": {"csi", "baselines", "models", "tasks"},
    "link": {"csi", "channels", "loading"},
    "resources": {"csi"},
    # Neither edge nor serving: those import evaluation, and a benchmark YAML names its runner by class_path.
    "evaluation": {"csi", "metrics", "baselines", "models", "tasks", "data", "channels", "link", "loading"},
    "edge": {"csi", "tasks", "data", "models", "channels", "metrics", "resources", "evaluation"},
    "serving": {"csi", "models", "loading", "resources", "evaluation"},
    "export": {"csi", "models", "loading", "data"},
    "testing": {"metrics", "channels"},  # contracts for outside packages, golden runs
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
    "onnx": {"export"},
    "onnxscript": {"export"},
    "onnxruntime": {"export", "models"},  # models runs what export writes
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
)

SOURCES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> list[tuple[int, str]]:
    """(line, absolute dotted name) of every import: lazy ones, `from airlam import x` and strings included."""
    package = ("airlam", *path.relative_to(PACKAGE).parent.parts)
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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
            allowed = ALLOWED[room] if room in COMMON else ALLOWED[room] | COMMON
            if target in {*ALLOWED, *EVERYTHING} - {room} and target not in allowed:
                wrong.append(f"{path.name}:{line} imports airlam.{target}; {room} may import {sorted(allowed)}")
        elif room not in EXCLUSIVE.get(top, {room}):
            wrong.append(f"{path.name}:{line} imports {name}; only {sorted(EXCLUSIVE[top])} may import {top}")
    assert not wrong, "\n".join(wrong)


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
