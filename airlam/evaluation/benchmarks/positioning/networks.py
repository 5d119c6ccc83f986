"""Networks of a site: trained on labelled users, stopped and calibrated on validation users."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from airlam.baselines.positioning import PositionEstimate, SiteCSI, calibration
from airlam.evaluation.benchmarks.positioning.config import PositioningConfig
from airlam.evaluation.engine.quiet import quiet
from airlam.models.position import AirlamPosition, PositionInputs, position_loss
from airlam.tasks import Positioning
from airlam.tasks.position_starts import Start

LOOKS = 8  # at the validation users, evenly over the steps


class KeepBest(L.Callback):
    """Looks at the validation users now and then, and remembers the weights that served them best."""

    def __init__(self, inputs: PositionInputs, truth: torch.Tensor, every: int):
        self.inputs, self.truth, self.every = inputs, truth, every
        self.best, self.step, self.weights = torch.inf, 0, {}  # type: ignore[var-annotated]

    def look(self, model: AirlamPosition, step: int) -> None:
        """One look; the weights before training are a candidate, too."""
        model.eval()
        with torch.no_grad():
            mean, factor = model(*self.inputs)
            value = float(position_loss(mean, factor, self.truth).mean())
        model.train()
        if value < self.best:
            self.best, self.step = value, step
            self.weights = {name: x.detach().clone() for name, x in model.state_dict().items()}

    def on_train_start(self, trainer, pl_module) -> None:
        self.look(pl_module.model, 0)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step % self.every == 0:
            self.look(pl_module.model, trainer.global_step)


def trained(
    config: PositioningConfig,
    labelled: SiteCSI,
    validation: SiteCSI,
    starts: PositionEstimate,
    start: Start,
    *,
    pretrained: bool,
    seed: int,
) -> tuple[Start, dict[str, Any]]:
    """A network of this site as a method, calibrated, and what is to be said of it.

    Args:
        starts: of the labelled users, by a method that did not see their labels. start: of all others.
    """
    truth, inputs = labelled.known()[:, :2].float(), PositionInputs.of(labelled, starts)
    beams = labelled.port_shape[1] * labelled.port_shape[2]
    how, count = config.training, len(labelled)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = Positioning(
            config.model if pretrained else None,
            {"stations": labelled.h.shape[1], "beams": beams},
            learning_rate=how.learning_rate,
        )
        batches = [torch.randint(count, (min(how.batch_size, count),)) for _ in range(how.steps)]
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(*inputs, truth), batch_sampler=[b.tolist() for b in batches]
        )
        keep = KeepBest(
            PositionInputs.of(validation, start(validation)),
            validation.known()[:, :2].float(),
            max(1, how.steps // LOOKS),
        )
        trainer = L.Trainer(
            max_epochs=1,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            gradient_clip_val=1.0,
            callbacks=[keep],
        )
        trainer.fit(task, loader)
    model = task.model.eval()
    model.load_state_dict(keep.weights)
    found = model.locate(validation, start(validation))
    factor = calibration(found, validation.known()[:, :2])

    def method(csi: SiteCSI) -> PositionEstimate:
        return model.locate(csi, start(csi)).scaled(factor)

    facts = {"stopped at step": keep.step, "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad)}
    return method, facts
