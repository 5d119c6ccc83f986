"""Training the phase tracker: it learns, nothing else changes, checkpoints come back."""

import pytest
import torch
from torch.utils.data import DataLoader

from airlam.channels import load_channel
from airlam.loading import load_predictor
from airlam.models import AirlamConfig, AirlamModel, load_checkpoint, save_checkpoint
from airlam.tasks import ExportCheckpoint, PhaseTracking


@pytest.fixture(scope="module")
def batches():
    channel = load_channel({"scenario": "umi", "state": "nlos", "speed_kmh": 10, "num_subcarriers": 12})
    links = channel.sample(64, 16, seed=1)
    return [{"h_past_true": links.h[i : i + 8], "port_shape": links.port_shape} for i in range(0, 64, 8)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.manual_seed(0)
    return save_checkpoint(AirlamModel(AirlamConfig(num_tokens=8, num_groups=0)), tmp_path_factory.mktemp("base"))


@pytest.mark.slow
def test_the_tracker_learns_and_the_backbone_stays(batches, base, tmp_path, quiet_trainer):
    torch.manual_seed(1)
    task = PhaseTracking(str(base), warmup_steps=5, phase_std=(0.1, 0.2), slope_std=(0.1, 0.2), probability=1.0)
    trainer = quiet_trainer(
        max_steps=60,
        callbacks=[ExportCheckpoint(str(tmp_path / "out"))],
    )
    loader = DataLoader(batches, batch_size=None)
    before = trainer.validate(task, loader, verbose=False)[0]
    trainer.fit(task, loader)
    after = trainer.validate(task, loader, verbose=False)[0]
    assert after["val_offset_db"] == before["val_offset_db"]
    assert after["val_error_db"] < min(before["val_error_db"], before["val_offset_db"]) - 2  # a third of the energy off
    old, new = load_checkpoint(base).state_dict(), load_checkpoint(tmp_path / "out").state_dict()
    assert all(torch.equal(new[name], old[name]) for name in old)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    h = batches[0]["h_past_true"]
    a, b = (load_predictor(p).predict(h, 2) for p in (tmp_path / "out", tmp_path / "run.ckpt"))
    assert torch.equal(a, b)


def test_ranges_are_checked(base):
    with pytest.raises(ValueError, match="phase_std must be a range of positive numbers"):
        PhaseTracking(str(base), phase_std=(0.0, 0.1))
