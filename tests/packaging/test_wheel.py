"""The wheel is complete: built, installed in a clean environment, and used from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def run(*command, cwd: Path, timeout: float = 300) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    result = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source")
    # From a copy: building leaves build/ and *.egg-info behind, and another process may be building too.
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if tracked.returncode != 0:
        pytest.skip("not a git repository")
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    stale = source / "build" / "lib" / "airlam" / "_recipes" / "channels" / "stale.yaml"
    stale.parent.mkdir(parents=True)
    stale.write_text("from: an earlier build\n")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, cwd=source)
    (path,) = out.glob("airlam-*.whl")
    return path


@pytest.fixture(scope="module")
def clean_python(wheel, tmp_path_factory) -> Path:
    """A virtual environment with this wheel alone; third-party packages are borrowed from the running one."""
    home = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(home, with_pip=False)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(home), "platbase": str(home)}))
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=home)
    # A .pth line makes the borrowed packages visible, but does not run the .pth files that stand there: the editable
    # installation of this repository stays out.
    borrowed = {path for path in sys.path if Path(path).name == "site-packages"}
    (site / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    return python


def test_wheel_holds_every_recipe_and_data_file(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    recipes = [p.relative_to(ROOT) for f in ("channels", "datasets", "tasks") for p in (ROOT / f).rglob("*.yaml")]
    shipped = [p.relative_to(ROOT) for p in (ROOT / "checkpoints").glob("airlam-*/*") if p.is_file()]
    shipped.append(Path("benchmarks/reference/ar.py"))
    missing = [p for p in [*recipes, *shipped] if f"airlam/_recipes/{p.as_posix()}" not in names]
    assert not missing, f"setup.py leaves these out of the wheel: {missing}"
    data = [p.relative_to(ROOT) for p in (ROOT / "airlam").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    missing = [p for p in data if p.parts[1] != "_recipes" and p.as_posix() not in names]
    assert not missing, f"[tool.setuptools.package-data] leaves these out of the wheel: {missing}"
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.startswith("airlam")} == set(), "only airlam may be importable"
    assert not [name for name in names if "stale" in name], "an old build/ folder leaked into the wheel"
    assert not [name for name in names if name.endswith((".h5", ".ckpt"))]


def test_installed_wheel_is_used_not_the_repository(clean_python, tmp_path):
    place = run(clean_python, "-c", "import airlam; print(airlam.__file__)", cwd=tmp_path)
    assert str(ROOT / "airlam") not in place


def test_airlam_list_from_another_folder(clean_python, tmp_path):
    out = run(clean_python.parent / "airlam", "list", cwd=tmp_path)
    assert "uma_nlos" in out


def test_a_recipe_by_name_from_another_folder(clean_python, tmp_path):
    code = (
        "from airlam.channels import load_channel\n"
        "links = load_channel('cdl_c').sample(2, 3, seed=0)\n"
        "print(tuple(links.h.shape))"
    )
    shape = run(clean_python, "-c", code, cwd=tmp_path).strip().splitlines()[-1]
    assert shape.startswith("(2, 3, ")


def test_the_version_is_that_of_the_source(clean_python, wheel, tmp_path):
    from airlam import __version__

    assert wheel.name.startswith(f"airlam-{__version__}-")
    assert run(clean_python.parent / "airlam", "--version", cwd=tmp_path).strip() == f"airlam {__version__}"


def test_every_shipped_checkpoint_loads_from_another_folder(clean_python, tmp_path):
    code = (
        "import airlam.models\n"
        "from airlam.models.checkpoint import load_shipped\n"
        "from airlam.recipes import find_checkpoint, list_recipes\n"
        "from transformers import AutoModel\n"
        "names = [entry.split('/')[-1] for entry in list_recipes('checkpoints')]\n"
        "for name in names: load_shipped(name)\n"
        "AutoModel.from_pretrained(find_checkpoint('airlam-tiny'))\n"
        "print(*names)"
    )
    found = run(clean_python, "-c", code, cwd=tmp_path).split()
    assert sorted(found) == sorted(path.parent.name for path in ROOT.glob("checkpoints/airlam-*/config.json"))


def test_training_by_the_names_of_recipes_from_another_folder(clean_python, tmp_path):
    airlam = clean_python.parent / "airlam"
    recipe = "tasks/channel_prediction/airlam_tiny.yaml"
    run(airlam, "fit", "--config", recipe, "--data", "tiny", "--trainer.max_steps", 2, "--out", "mine", cwd=tmp_path)
    assert (tmp_path / "mine" / "adapter" / "adapter_config.json").is_file()
