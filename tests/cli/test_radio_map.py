"""``airlam fit`` for radio maps, with regions that are there already."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from airlam.data import CityDataModule
from airlam.models import load_map
from airlam.recipes import find_recipe
from airlam.tasks import RadioMapping
from airlam.tasks.lightning_files import read_lightning

TASK = "tasks/radio_map/airlam_map.yaml"
FOLDER = Path("runs/radio_map/airlam-map")
QUICK = ["--model.queries", "8", "--trainer.enable_model_summary", "false", "--trainer.check_val_every_n_epoch", "1"]


@pytest.fixture
def regions(tmp_path, write_region):
    """The shipped data set with three small regions of 64 users and two stations."""
    data = yaml.safe_load(find_recipe("datasets/city_regions.yaml").read_text(encoding="utf-8"))
    data["init_args"] |= {
        "train": {"florence": 2},
        "val": {"etoile": 1},
        "folder": str(tmp_path / "regions"),
        "users": 64,
        "stations": 2,
        "batches_per_epoch": 2,
    }
    made = CityDataModule(**data["init_args"])
    for split in ("train", "val"):
        for path in made.files(split):
            write_region(path, 64, 2)
    path = tmp_path / "regions.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def test_fit_leaves_a_checkpoint_and_a_model_and_goes_on(airlam, regions):
    common = ["--config", TASK, "--data", regions, *QUICK]  # asks for more measured places than there are
    result = airlam("fit", *common, "--trainer.max_steps", 2)
    assert result.code == 0, result.err
    assert read_lightning(str(FOLDER / "last.ckpt"))["global_step"] == 2
    result = airlam("fit", *common, "--trainer.max_steps", 3, "--ckpt_path", "last")
    assert result.code == 0, result.err
    saved = read_lightning(str(FOLDER / "last.ckpt"))
    assert saved["global_step"] == 3 and saved["CityDataModule"]["train"]["position"] == 3
    loaded = RadioMapping.load_from_checkpoint(FOLDER / "last.ckpt", weights_only=True).model.state_dict()
    exported = load_map(FOLDER / "model").state_dict()
    stored = {name: x.to(torch.bfloat16).float() for name, x in loaded.items()}
    assert all(torch.equal(x, exported[name]) for name, x in stored.items()) and loaded.keys() == exported.keys()


def test_task_and_data_must_fit(refuses, regions):
    told = refuses("fit", "--config", TASK, "--data", "datasets/tiny.yaml")
    assert "RadioMapping reads batches of CityDataModule" in told and "datasets/city_regions.yaml" in told
    told = refuses("fit", "--config", "tasks/positioning/airlam_position.yaml", "--data", regions)
    assert "Positioning reads batches of SiteDataModule, but the data set is a CityDataModule" in told
