"""Training of beam prediction: a few steps gain, its checkpoint comes back, bad arguments are refused."""

from __future__ import annotations

import lightning as L
import pytest
import torch

from airlam.data import CSIDataModule
from airlam.models import AirlamConfig, AirlamModel, load_beams, load_checkpoint, save_checkpoint
from airlam.tasks import BeamManagement, ExportCheckpoint


@pytest.fixture
def model(tiny_backbone):
    return {"backbone": tiny_backbone, "history": 4, "horizon": 1}


def data(history: int = 4) -> CSIDataModule:
    overrides = {
        "num_subcarriers": 4,
        "bs_panel": {"rows": 1, "columns": 8, "polarisation": "single", "pattern": "38.901"},
    }
    return CSIDataModule(
        channel="mixture_beam_management",
        channel_overrides=overrides,
        num_train=512,
        num_val=256,
        num_test=8,
        history=history,
        horizon=1,
        batch_size=64,
        seed=3,
    )


def test_training_gains_and_comes_back(tmp_path, monkeypatch, model, quiet_trainer):
    monkeypatch.setenv("AIRLAM_CACHE", str(tmp_path / "cache"))
    L.seed_everything(0, verbose=False)
    task = BeamManagement(
        backbone=None, model=model, beams_per_sweep=(2, 2), snr_db=(10, 10), learning_rate=3e-3, warmup_steps=2
    )
    trainer = quiet_trainer(
        max_steps=120,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=15,
        callbacks=[ExportCheckpoint(str(tmp_path / "beams"))],
    )
    trainer.fit(task, data())
    reached = trainer.callback_metrics
    assert float(reached["val_rate_gain"]) > 0.01  # bit/s/Hz over the average that it starts from
    assert 0 < float(reached["val_top1_start"]) < 1 and 0 < float(reached["val_top1"]) < 1
    loaded = load_beams(tmp_path / "beams")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), task.model.parameters(), strict=True))


def test_a_variant_on_a_shared_backbone(tmp_path, monkeypatch, tiny_backbone, quiet_trainer):
    monkeypatch.setenv("AIRLAM_CACHE", str(tmp_path / "cache"))
    base = save_checkpoint(AirlamModel(AirlamConfig(backbone=tiny_backbone, num_tokens=8)), tmp_path / "base")
    task = BeamManagement(model={"history": 4, "horizon": 1}, backbone=str(base), adapter_rank=2)
    trainer = quiet_trainer(max_steps=2, limit_val_batches=0, callbacks=[ExportCheckpoint(str(tmp_path / "beams"))])
    trainer.fit(task, data())
    model = load_checkpoint(base)
    loaded = load_beams(tmp_path / "beams", backbone=model)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), task.model.parameters(), strict=True))
    frozen = {p.data_ptr() for p in loaded.parameters() if not p.requires_grad}
    assert frozen == {p.data_ptr() for p in model.backbone.parameters()}


def test_too_short_data(model):
    task = BeamManagement(backbone=None, model=model)
    h = torch.ones(2, 3, 2, 1, 4, dtype=torch.complex64)
    with pytest.raises(ValueError, match="the data has 3 . 1 slots"):
        task.training_step({"h_past_true": h, "h_future": h[:, :1], "port_shape": (1, 4, 1)}, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beams_per_sweep": (0, 4)}, "beams_per_sweep"),
        ({"snr_db": (10.0, 0.0)}, "snr_db"),
        ({"snr_db": ()}, "snr_db"),
        ({"model": {"horizn": 3}}, "no argument 'horizn'"),
        ({"checkpoint": "airlam-beams"}, "leave model out"),
    ],
)
def test_bad_arguments(change, message, model):
    with pytest.raises(ValueError, match=message):
        BeamManagement(**({"backbone": None, "model": model} | change))
