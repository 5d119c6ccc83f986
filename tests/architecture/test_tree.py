"""What may stand in the repository: data in recipe folders, no pickles, no large files, no path of one machine."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE_FOLDERS = ("channels", "datasets", "tasks", "checkpoints")


def tracked_files() -> list[Path]:
    """Files that git tracks; skips where the tests run from an unpacked archive."""
    result = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0 or not result.stdout:
        pytest.skip("not a git repository")
    paths = (ROOT / name for name in result.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("folder", RECIPE_FOLDERS)
def test_recipe_folders_hold_data_not_code(folder):
    # With an __init__.py (or any module) datasets/ would pass for Hugging Face's package of that name.
    assert not list((ROOT / folder).rglob("*.py"))


def test_root_has_no_conftest():
    assert not (ROOT / "conftest.py").exists(), "it would put the root, and so datasets/, on sys.path"


def test_no_pickles_and_no_large_files():
    files = tracked_files()
    assert not [p for p in files if p.suffix in {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".h5"}]
    assert not [f"{p} {p.stat().st_size / 2**20:.0f} MB" for p in files if p.stat().st_size > 10 * 2**20]


def test_no_path_of_one_machine():
    # Absolute paths into somebody's home or working folder mean nothing elsewhere.
    pattern = re.compile(r"(?<![\w.}\])*-])/(?:home|root|Users|work)/\w")
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        lines = text.splitlines()
        found += [
            f"{path.relative_to(ROOT)}:{i}: {line.strip()[:100]}"
            for i, line in enumerate(lines, 1)
            if pattern.search(line)
        ]
    assert not found, "\n".join(found)


def test_whitespace():
    """No blanks at the end of a line, one line end at the end of a file."""
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        name = path.relative_to(ROOT)
        found += [
            f"{name}:{n}: blanks at the end" for n, line in enumerate(text.split("\n"), 1) if line != line.rstrip()
        ]
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            found.append(f"{name}: must end with exactly one line end")
    assert not found, "\n".join(found[:20])


def test_torch_load_is_always_weights_only():
    found = []
    for path in [p for p in tracked_files() if p.suffix == ".py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                safe = [k for k in node.keywords if k.arg == "weights_only" and getattr(k.value, "value", None) is True]
                if not safe:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found, f"torch.load without weights_only=True runs code from the file: {found}"


def test_links_in_the_documentation_lead_somewhere():
    broken = []
    # the links of docs/site/ lead into the finished site, where `make docs` checks them
    for path in [p for p in tracked_files() if p.suffix == ".md" and p.parent != ROOT / "docs" / "site"]:
        text = re.sub(r"<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.S)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)} -> {target}")
    assert not broken, "\n".join(broken)
