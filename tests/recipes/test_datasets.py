"""Every YAML under datasets/ is the init_args of a DataModule, or names its class too: class and fields exist, values
are accepted."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from lightning.pytorch import LightningDataModule

from airlam.recipes import find_class

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "datasets").rglob("*.yaml"))
pytestmark = pytest.mark.skipif(not RECIPES, reason="no recipes here")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_instantiates(path):
    from airlam.data import CSIDataModule

    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "class_path" in fields:
        assert set(fields) == {"class_path", "init_args"}
        made = find_class(fields["class_path"], str(path))(**fields["init_args"])
        assert isinstance(made, LightningDataModule) and not isinstance(made, CSIDataModule)
    else:
        CSIDataModule(**fields)
