"""A few steps of training of each task, from fixed seeds, give the losses they gave before."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import torch

from airlam.data import CSIDataModule
from airlam.models import AirlamConfig, AirlamModel, AirlamPrecoder, AirlamPrecoderConfig, save_checkpoint
from airlam.tasks import (
    Beamforming,
    BeamManagement,
    ChannelPrediction,
    ComparatorTraining,
    PhaseTracking,
    PilotBeamforming,
    Pretraining,
    Reconstruction,
)
from airlam.testing import check_golden

FOLDER = Path(__file__).parent
SLOTS = {"num_subcarriers": 8, "bs_panel": {"rows": 1, "columns": 4, "polarisation": "dual", "pattern": "38.901"}}
OPTIMISER = {"learning_rate": 3e-3, "warmup_steps": 2}


class Losses(L.Callback):
    """The loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
        self.values.append(float(outputs["loss"]))


def data(channel: str = "umi_nlos", **changes) -> CSIDataModule:
    options = dict(
        channel=channel,
        channel_overrides={**SLOTS, "links_per_drop": 6},
        num_train=None,
        num_val=12,
        num_test=12,
        history=8,
        horizon=2,
        csi_snr_db=20.0,
        batch_size=12,
        batches_per_epoch=4,
        block_size=12,
        seed=3,
    )
    return CSIDataModule(**(options | changes))


def run(quiet_trainer, make_task, module: CSIDataModule, steps: int = 4) -> dict[str, float]:
    """Losses of ``steps`` steps and the figures of one pass over the validation data."""
    L.seed_everything(0, verbose=False)
    task, losses = make_task(), Losses()
    trainer = quiet_trainer(
        max_steps=steps,
        num_sanity_val_steps=0,
        callbacks=[losses],
    )
    trainer.fit(task, module)
    found = {f"step {i}": value for i, value in enumerate(losses.values)}
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return found | {name: value for name, value in logged.items() if name.startswith("val")}


def test_every_task(tmp_path, tiny_backbone, quiet_trainer):
    model = {"num_tokens": 16, "num_groups": 2, "backbone": tiny_backbone}
    torch.manual_seed(0)
    base = save_checkpoint(AirlamModel(AirlamConfig(**model)), tmp_path / "base")
    precoder = save_checkpoint(AirlamPrecoder(AirlamPrecoderConfig(backbone=tiny_backbone)), tmp_path / "precoder")
    gru = {"num_subcarriers": 8, "history": 8, "horizon": 2, "width": 16}
    users = {"users": (2, 3), "groups": 8}
    own = {"backbone": None, **OPTIMISER}
    beams = {"num_subcarriers": 4, "bs_panel": {"rows": 1, "columns": 8, "polarisation": "single", "pattern": "38.901"}}
    tracks = data(
        "mixture_beam_management",
        channel_overrides=beams,
        history=4,
        horizon=1,
        batch_size=64,
        num_train=None,
        num_val=64,
        block_size=64,
    )
    ranges = {"phase_std": (0.1, 0.2), "slope_std": (0.1, 0.2), "probability": 1.0}
    cases = {
        "pretraining": (lambda: Pretraining(model=model, mask_probability=0.25, **OPTIMISER), data()),
        "prediction": (lambda: ChannelPrediction(checkpoint=str(base), lora_rank=2, **OPTIMISER), data()),
        "phase tracking": (lambda: PhaseTracking(str(base), warmup_steps=2, **ranges), data()),
        "reconstruction": (
            lambda: Reconstruction(checkpoint=str(base), axis="subcarrier", patterns=("comb:2",), **OPTIMISER),
            data(),
        ),
        "gru": (lambda: ComparatorTraining("gru", gru, **OPTIMISER), data()),
        "beamforming": (lambda: Beamforming(model={"backbone": tiny_backbone, "rounds": 1}, **users, **own), data()),
        "pilots": (
            lambda: PilotBeamforming(precoder=str(precoder), model={"backbone": tiny_backbone}, **users, **own),
            data(history=1, horizon=1),
        ),
        "beams": (lambda: BeamManagement(model={"backbone": tiny_backbone, "history": 4, "horizon": 1}, **own), tracks),
    }
    found: dict[str, float] = {}
    for name, (task, module) in cases.items():
        found |= {f"{name}: {key}": value for key, value in run(quiet_trainer, task, module).items()}
    # 1e-2: a few steps of AdamW carry rounding of the first on to the last
    # pilots: one group of the second batch has nearly parallel users: rounding of channels moves its loss by 0.6
    loose = {"pilots: step 1": 1.0, "pilots: val*": 0.05}
    check_golden(FOLDER / "training.json", found, rtol=1e-2, atol=1e-3, loose=loose)
