"""Training of the network that reads pilots: a few steps gain, its checkpoint comes back, bad arguments are refused."""

from __future__ import annotations

import lightning as L
import pytest
import torch

from airlam.data import CSIDataModule
from airlam.models import (
    AirlamConfig,
    AirlamModel,
    AirlamPrecoder,
    AirlamPrecoderConfig,
    load_checkpoint,
    load_pilots,
    save_checkpoint,
)
from airlam.tasks import ExportCheckpoint, PilotBeamforming

CHANNEL = {
    "links_per_drop": 6,
    "num_subcarriers": 24,
    "speed_kmh": 0.0,
    "bs_panel": {"rows": 1, "columns": 8, "polarisation": "dual", "pattern": "38.901"},
}


@pytest.fixture
def precoder(tmp_path, tiny_backbone):
    return str(save_checkpoint(AirlamPrecoder(AirlamPrecoderConfig(backbone=tiny_backbone)), tmp_path / "precoder"))


def data(batch_size: int = 36) -> CSIDataModule:
    return CSIDataModule(
        channel="uma_nlos",
        channel_overrides=CHANNEL,
        num_train=None,
        num_val=72,
        num_test=36,
        history=1,
        horizon=1,
        batch_size=batch_size,
        batches_per_epoch=60,
        block_size=36,
        seed=3,
    )


def test_training_gains_and_comes_back(tmp_path, precoder, monkeypatch, tiny_backbone, quiet_trainer):
    monkeypatch.setenv("AIRLAM_CACHE", str(tmp_path / "cache"))
    L.seed_everything(0, verbose=False)
    task = PilotBeamforming(
        precoder=precoder,
        backbone=None,
        model={"backbone": tiny_backbone},
        users=(2, 4),
        groups=8,
        learning_rate=3e-3,
        warmup_steps=2,
    )
    trainer = quiet_trainer(
        max_steps=60,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        val_check_interval=60,
        callbacks=[ExportCheckpoint(str(tmp_path / "pilots"))],
    )
    trainer.fit(task, data())
    assert float(trainer.callback_metrics["val_gain_db"]) > 0.1  # dB over the separable start
    loaded = load_pilots(tmp_path / "pilots")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), task.model.parameters(), strict=True))


def test_a_variant_on_a_shared_backbone(tmp_path, monkeypatch, precoder, tiny_backbone, quiet_trainer):
    monkeypatch.setenv("AIRLAM_CACHE", str(tmp_path / "cache"))
    base = save_checkpoint(AirlamModel(AirlamConfig(backbone=tiny_backbone, num_tokens=8)), tmp_path / "base")
    task = PilotBeamforming(precoder=precoder, users=(2, 4), groups=8, backbone=str(base), adapter_rank=2)
    trainer = quiet_trainer(max_steps=2, limit_val_batches=0, callbacks=[ExportCheckpoint(str(tmp_path / "pilots"))])
    trainer.fit(task, data())
    model = load_checkpoint(base)
    loaded = load_pilots(tmp_path / "pilots", backbone=model)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), task.model.parameters(), strict=True))
    frozen = {p.data_ptr() for p in loaded.parameters() if not p.requires_grad}
    assert frozen == {p.data_ptr() for p in model.backbone.parameters()}


def test_one_drop_cannot_give_the_covariance_of_others(precoder, tiny_backbone):
    task = PilotBeamforming(precoder=precoder, backbone=None, model={"backbone": tiny_backbone})
    batch = {"h_past_true": torch.ones(4, 1, 6, 1, 4, dtype=torch.complex64), "drop": torch.zeros(4)}
    with pytest.raises(ValueError, match="one drop only"):
        task.training_step(batch, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pilot_share": (0.0, 1.0)}, "pilot_share"),
        ({"users": (5, 3)}, "fewest and the most"),
        ({"unknown_covariance": 2.0}, "unknown_covariance"),
    ],
)
def test_bad_arguments(precoder, change, message):
    with pytest.raises(ValueError, match=message):
        PilotBeamforming(precoder=precoder, **change)
