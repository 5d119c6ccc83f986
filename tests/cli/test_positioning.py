"""``airlam fit`` at a site: a data set with a DataModule of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from airlam.recipes import find_recipe
from airlam.tasks.lightning_files import read_lightning

TASK = "tasks/positioning/airlam_position.yaml"


@pytest.fixture
def hall(tmp_path):
    """The shipped data set, at a small hall with few users."""
    data = yaml.safe_load(find_recipe("datasets/positions.yaml").read_text(encoding="utf-8"))
    data["init_args"] |= {
        "channel_overrides": {
            "factory": "sh",
            "stations": [[-60, -40, 45], [60, -40, 135], [60, 40, -135], [-60, 40, -45]],
            "links_per_drop": 4,
            "num_subcarriers": 64,
            "area": [-60, 60, -40, 40],
        },
        "num_train": 12,
        "num_val": 6,
        "num_test": 5,
        "batch_size": 4,
        "batches_per_epoch": 1,
    }
    path = tmp_path / "hall.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


SMALL = ["--model.model", "{stations: 4, beams: 4}", "--trainer.enable_model_summary", "false"]
FOLDER = Path("runs/positioning/airlam-position")


def test_two_steps_leave_a_checkpoint_and_a_model(airlam, hall):
    from airlam.models import load_position
    from airlam.tasks import Positioning

    quick = ["--data.prepare.init_args.maps", "false", "--trainer.max_epochs", 2]  # maps: below
    result = airlam("fit", "--config", TASK, "--data", hall, *SMALL, *quick)
    assert result.code == 0, result.err
    saved = read_lightning(str(FOLDER / "last.ckpt"))
    assert saved["global_step"] == 2 and any((FOLDER / "tensorboard").rglob("events.*"))
    loaded = Positioning.load_from_checkpoint(FOLDER / "last.ckpt", weights_only=True).model.state_dict()
    exported = load_position(FOLDER / "model").state_dict()
    assert all(torch.equal(x, exported[name]) for name, x in loaded.items()) and loaded.keys() == exported.keys()


@pytest.mark.slow
def test_fit_go_on_and_judge(airlam, hall):
    common = ["--config", TASK, "--data", hall, *SMALL]
    assert airlam("fit", *common, "--trainer.max_epochs", 2).code == 0
    assert airlam("fit", *common, "--trainer.max_epochs", 3, "--ckpt_path", "last").code == 0
    saved = read_lightning(str(FOLDER / "last.ckpt"))
    assert saved["global_step"] == 3 and saved["SiteDataModule"]["train"]["position"] == 3
    result = airlam("test", *common, "--ckpt_path", "last")
    assert result.code == 0 and "test_error_90" in result.out


def test_data_of_ones_own_class(airlam, refuses, hall, tmp_path):
    shown = yaml.safe_load(airlam("fit", "--config", TASK, f"--data={hall}", "--print_config").out)["data"]
    assert shown["class_path"] == "airlam.data.SiteDataModule" and shown["init_args"]["num_train"] == 12
    assert shown["init_args"]["prepare"]["class_path"] == "airlam.tasks.PositionStarts"
    task = yaml.safe_load(find_recipe(TASK).read_text(encoding="utf-8"))
    for number, data in enumerate((hall.name, yaml.safe_load(hall.read_text()))):  # a recipe may name its data
        path = tmp_path / f"task{number}.yaml"
        path.write_text(yaml.safe_dump({**task, "data": data}))
        assert yaml.safe_load(airlam("fit", "--config", path, "--print_config").out)["data"] == shown
    hall.write_text(hall.read_text().replace("num_val", "num_vla"))
    assert "SiteDataModule has no argument 'num_vla'; did you mean 'num_val'" in refuses(
        "fit", "--config", TASK, "--data", hall
    )
    assert "'airlam fit' alone reads it" in refuses("generate", "--config", hall)


def test_task_and_data_must_fit(refuses, hall):
    told = refuses("fit", "--config", TASK, "--data", "datasets/tiny.yaml")
    assert "Positioning reads batches of SiteDataModule" in told and "datasets/positions.yaml" in told
    told = refuses("fit", "--config", "tasks/channel_prediction/airlam_tiny.yaml", "--data", hall)
    assert "reads batches of CSIDataModule, but the data set is a SiteDataModule" in told
