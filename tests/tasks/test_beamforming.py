"""Training of the learned precoder: what a step sees, that it gains, that its checkpoints come back."""

from __future__ import annotations

import lightning as L
import pytest
import torch

from airlam.data import CSIDataModule
from airlam.errors import CheckpointError
from airlam.loading import load_precoder, load_predictor
from airlam.models import AirlamConfig, AirlamModel, save_checkpoint
from airlam.models.shared import own_tensors
from airlam.tasks import Beamforming, ExportCheckpoint
from airlam.tasks.beamforming import SOURCES

CHANNEL = {
    "links_per_drop": 6,
    "num_subcarriers": 12,
    "speed_kmh": [30, 100],
    "bs_panel": {"rows": 1, "columns": 4, "polarisation": "dual", "pattern": "38.901"},
}


def data(**changes) -> CSIDataModule:
    options = dict(
        channel="umi_nlos",
        channel_overrides=CHANNEL,
        num_train=None,
        num_val=12,
        num_test=12,
        csi_snr_db=[0.0, 30.0],
        batch_size=12,
        batches_per_epoch=50,
        block_size=12,
        seed=3,
    )
    return CSIDataModule(**(options | changes))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRLAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def task(tiny_backbone):
    """``task(utility="max_min")``"""
    options = dict(
        backbone=None,
        model={"backbone": tiny_backbone, "rounds": 1},
        users=(2, 6),
        groups=24,
        learning_rate=3e-3,
        warmup_steps=2,
    )
    return lambda **changes: Beamforming(**(options | changes))


@pytest.fixture
def batch():
    return next(iter(data().train_dataloader()))


@pytest.mark.parametrize("source", SOURCES)
def test_groups_are_of_one_drop_and_errors_are_as_large_as_said(batch, source, task):
    made = task(users=(4, 4), groups=64)
    truth, csi, spread = made.believe(batch, source, torch.Generator().manual_seed(0))
    assert csi.shape == truth.shape and spread.shape == (*csi.shape, 8)
    said = spread.diagonal(dim1=-2, dim2=-1).real.mean()
    real = (csi - truth).abs().square().mean()
    # raw errors are known but for chance; a network's are calibrated on average, those of one slot are optimistic
    assert 0.25 < float(said / real) < (1.3 if source == "raw" else 4)
    found = made.draw(batch, source, torch.Generator().manual_seed(0))
    assert found.csi.shape == (64, 4, 8) and found.no.shape == (64,)
    # every group's rows are rows of links of one drop
    for group in found.truth[:8]:
        rows = [((truth - row).abs().sum(-1) < 1e-5).flatten(1).any(1).nonzero()[0] for row in group]
        assert len({int(batch["drop"][row]) for row in rows}) == 1
        assert len({int(row) for row in rows}) == 4


def test_a_drop_with_too_few_links_is_refused(batch, task):
    with pytest.raises(ValueError, match="raise links_per_drop"):
        task(users=(8, 12)).draw(batch, "raw", torch.Generator().manual_seed(0))


def test_training_gains_and_comes_back(tmp_path, task, quiet_trainer):
    L.seed_everything(0, verbose=False)
    made = task(sources={"predicted": 1.0}, users=(6, 6), transmit_snr_db=(20.0, 20.0))
    trainer = quiet_trainer(
        max_steps=40,
        callbacks=[ExportCheckpoint(str(tmp_path / "precoder"))],
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        val_check_interval=20,
    )
    trainer.fit(made, data())
    # eight antennas, six users, old CSI: some users are better not served alike
    assert float(trainer.callback_metrics["val_gain"]) > 0.02
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    h = torch.randn(3, 4, 8, dtype=torch.complex64)
    one, other = (load_precoder(tmp_path / name).precode(h, 1.0, 0.05) for name in ("precoder", "last.ckpt"))
    torch.testing.assert_close(one, other)


def test_another_utility_by_adapters(tmp_path, task, quiet_trainer):
    save_checkpoint(task().model, tmp_path / "base")
    adapted = task(model=None, checkpoint=str(tmp_path / "base"), lora_rank=2, utility="max_min")
    trainer = quiet_trainer(
        max_steps=2,
        callbacks=[ExportCheckpoint(str(tmp_path / "adapter"))],
    )
    trainer.fit(adapted, data())
    assert load_precoder(tmp_path / "adapter").utility == "max_min"  # adapters say what they are for
    assert load_precoder(tmp_path / "adapter", utility="sum_rate").utility == "sum_rate"
    (tmp_path / "adapter" / "precoder.json").write_text("{")
    with pytest.raises(CheckpointError, match="precoder.json is damaged"):
        load_precoder(tmp_path / "adapter")
    trained, total = adapted.model.get_nb_trainable_parameters()
    assert trained < 0.2 * total


def test_a_variant_on_a_shared_backbone(tmp_path, task, tiny_backbone, quiet_trainer):
    """Adapters and own layers are trained, the backbone stays; the export holds the former; both files come back."""
    base = save_checkpoint(AirlamModel(AirlamConfig(backbone=tiny_backbone, num_tokens=8)), tmp_path / "base")
    made = task(model={"rounds": 1}, backbone=str(base), adapter_rank=2)
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    trainer = quiet_trainer(max_steps=3, callbacks=[ExportCheckpoint(str(tmp_path / "variant"))])
    trainer.fit(made, data())
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    kept = {name for name, value in made.model.state_dict().items() if torch.equal(value, before[name])}
    assert kept == before.keys() - own_tensors(made.model).keys()
    h = torch.randn(3, 4, 8, dtype=torch.complex64)
    predictor = load_predictor(base)
    found = [load_precoder(tmp_path / "variant", backbone=predictor), load_precoder(tmp_path / "last.ckpt")]
    one, other = (precoder.precode(h, 1.0, 0.05) for precoder in found)
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"utility": "fame"}, "utility is 'fame'"),
        ({"lora_rank": 4}, "name it as checkpoint"),
        ({"adapter_rank": 4}, "name its checkpoint as backbone"),
        ({"users": (0, 3)}, "fewest and the most"),
        ({"sources": {"dreamt": 1.0}}, "takes weights"),
        ({"checkpoint": "airlam-tiny", "model": None}, "of type 'airlam'"),
    ],
)
def test_bad_arguments(change, message, task):
    with pytest.raises((ValueError, CheckpointError), match=message):
        task(**change)
