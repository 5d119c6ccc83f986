"""``airlam doctor``: what is installed, whether it works, and how to get what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata, util
from pathlib import Path

from airlam.cli.parsing import Parser

OK, MISSING, BROKEN = "ok", "not installed", "broken"

# Python package -> (distributions that bring it, what for, how to install it)
EXTRAS = {
    "ray": (("ray",), "generation of data sets on a Ray cluster", "pip install 'airlam[ray]'"),
    "flwr": (("flwr",), "airlam federate", "pip install 'airlam[federated]'"),
    "onnx": (("onnx",), "airlam export", "pip install 'airlam[onnx]'"),
    "onnxruntime": (("onnxruntime",), "running what it wrote", "pip install 'airlam[onnx]'"),
    "ai_edge_litert": (("ai-edge-litert",), "running LiteRT graphs", "pip install 'airlam[litert]'"),
    "tensorflow": (("tensorflow",), "airlam export --format tensorflow", "pip install 'airlam[tensorflow]'"),
    "numba": (("numba",), "streams of airlam.realtime at full speed", "pip install 'airlam[realtime]'"),
    "openvino": (("openvino",), "one more runtime that airlam.realtime tries", "pip install openvino"),
}


def run(arguments: Sequence[str]) -> int:
    """Prints one line per finding; exit code 1 if something that airlam needs is broken."""
    parser = Parser("airlam doctor", "Say what is installed and usable, with versions. State it with your figures.")
    parser.parse_strictly(arguments)

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("part", "state", "details", title="airlam doctor", title_justify="left", expand=False)
    broken = []
    for name, check in CHECKS.items():
        try:
            state, details = OK, check()
        except Exception as error:
            state, details = BROKEN, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            broken.append(name)
        table.add_row(name, {OK: "[green]ok[/]", BROKEN: "[red]broken[/]"}[state], escape(details))
    for name, (distributions, purpose, remedy) in EXTRAS.items():
        version = _version(*distributions)
        if version and util.find_spec(name):
            table.add_row(name, "[green]ok[/]", f"{version}: {purpose}")
        else:
            table.add_row(name, f"[dim]{MISSING}[/]", escape(f"optional, {purpose}: {remedy}"))
    traced = _ray_tracing()
    table.add_row("ray tracing", "[green]ok[/]" if traced else f"[dim]{MISSING}[/]", escape(traced.reason))
    Console().print(table)
    if broken:
        print(f"broken: {', '.join(broken)}. 'make install' or 'pip install -c constraints.txt airlam' mends packages.")
    return 1 if broken else 0


def _version(*distributions: str) -> str | None:
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _airlam() -> str:
    import airlam
    from airlam.recipes import list_recipes, recipe_root

    number = sum(len(list_recipes(kind)) for kind in ("channels", "datasets", "tasks"))
    if not number:
        raise RuntimeError(f"no recipes under {recipe_root()}")
    return f"{airlam.__version__}, {number} recipes in {recipe_root()}"


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"


def _hardware() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB memory"
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return f"{cores} cores{memory}, {free:.1f} GB free on this disk"


def _torch() -> str:
    import torch

    product = torch.eye(8) @ torch.ones(8, 8)
    if not torch.equal(product, torch.ones(8, 8)):
        raise RuntimeError("a matrix product is wrong")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU (none needed)"
    return f"{torch.__version__}, {torch.get_num_threads()} threads, {gpu}"


def _sionna() -> str:
    both = [name for name in ("sionna-no-rt", "sionna") if _version(name)]
    if not both:
        raise RuntimeError("not installed: pip install 'sionna-no-rt==2.2.*'")
    # In a process of its own: a broken LLVM aborts rather than raises.
    start = time.monotonic()
    code = "import warnings; warnings.simplefilter('ignore')\n"
    code += "from airlam.channels.sionna_stream import import_sionna; import_sionna()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise RuntimeError(f"import sionna.phy fails: {lines[-1]}")
    text = f"{_version(*both)}, imported in {time.monotonic() - start:.1f} s"
    return text + ("; two packages provide it: keep one" if len(both) > 1 else "")


def _channels() -> str:
    from airlam.channels import load_channel

    recipe = {"scenario": "umi", "num_subcarriers": 2, "chunk": 2, "bs_panel": {"rows": 1, "columns": 1}}
    links = load_channel(recipe).sample(2, 2, seed=0)
    return f"drew {len(links.h)} links with Sionna"


def _ray_tracing():
    """Optional: whether the rt_* channels can be drawn, and what is missing if not."""
    from airlam.channels import rt_available

    return rt_available()


def _store() -> str:
    with tempfile.TemporaryDirectory() as folder:
        from airlam.data.layout import check_writing

        check_writing(Path(folder) / "x.h5")
    from airlam.data.recipe import cache_folder

    return f"h5py {_version('h5py')}: wrote and read a file; cache: {cache_folder()}"


def _lightning() -> str:
    import lightning

    tensorboard = _version("tensorboard")
    return f"{lightning.__version__}, jsonargparse {_version('jsonargparse')}, tensorboard {tensorboard or MISSING}"


def _models() -> str:
    import airlam.models  # noqa: F401  # imports transformers and peft

    return f"transformers {_version('transformers')}, peft {_version('peft')}, safetensors {_version('safetensors')}"


def _checkpoints() -> str:
    from airlam.models.checkpoint import load_shipped
    from airlam.recipes import list_recipes

    names = [Path(entry).name for entry in list_recipes("checkpoints")]
    for name in names:
        load_shipped(name)
    return f"{', '.join(names)} loaded" if names else "none shipped"


CHECKS: dict[str, Callable[[], str]] = {
    "airlam": _airlam,
    "python": _python,
    "hardware": _hardware,
    "torch": _torch,
    "sionna": _sionna,
    "channels": _channels,
    "store": _store,
    "lightning": _lightning,
    "models": _models,
    "checkpoints": _checkpoints,
}
