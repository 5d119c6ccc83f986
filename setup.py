"""Puts recipes and shipped checkpoints into the wheel as ``airlam/_recipes``; everything else is in pyproject.toml.

In the repository they stand in top-level folders, where people read and edit them, and an editable install reads them
there. A wheel has no top level of its own, hence the copy.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = (
    "channels/**/*.yaml",
    "datasets/**/*.yaml",  # the recipes; generated .h5 files are never shipped
    "tasks/**/*.yaml",
    "checkpoints/airlam-*/*.json",  # the project's own; a user's checkpoints go by other names
    "checkpoints/airlam-*/*.md",
    "checkpoints/airlam-*/*.safetensors",
    "checkpoints/airlam-*/*.yaml",
    "benchmarks/reference/*.py",  # the frozen AR, unit of latency ratios; it is loaded by its path
)


class BuildWithRecipes(build_py):
    def run(self):
        if self.editable_mode:
            return super().run()
        # A build/ folder left by an earlier version would leak its removed modules and recipes into this wheel.
        package = Path(self.build_lib) / "airlam"
        shutil.rmtree(package, ignore_errors=True)
        super().run()
        for pattern in SHIPPED:
            for source in sorted(ROOT.glob(pattern)):
                target = package / "_recipes" / source.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


setup(cmdclass={"build_py": BuildWithRecipes})
