"""Adaptation of a model to the users of one site."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, IterableDataset

from airlam.channels import LinkBatch
from airlam.csi import measure
from airlam.evaluation.demo.arguments import DemoArguments
from airlam.evaluation.engine.quiet import quiet
from airlam.interfaces import Predictor
from airlam.loading import load_predictor


class SiteWindows(IterableDataset):
    """Endless training batches from the adaptation users: random users, random windows, fresh noise.

    Args:
        links: the users, with at least as many slots as a window has.
        demo: history, horizon, SNR, batch size and seed; the same seed gives the same batches.
    """

    def __init__(self, links: LinkBatch, demo: DemoArguments):
        self.links, self.demo = links, demo

    def __iter__(self) -> Iterator[dict[str, Any]]:
        links, demo = self.links, self.demo
        generator = torch.Generator().manual_seed(demo.seed)
        window = demo.history + demo.horizon
        while True:
            users = torch.randperm(len(links), generator=generator)[: demo.batch_size]
            first = int(torch.randint(links.h.shape[1] - window + 1, (1,), generator=generator))
            h = links.h[users, first : first + window]
            past = h[:, : demo.history]
            yield {
                "h_past": measure(past, demo.csi_snr_db, generator),
                "h_past_true": past,
                "h_future": h[:, demo.history :],
                "csi_snr_db": torch.full((len(users),), float(demo.csi_snr_db)),
                "speed": links.speed[users],
                "index": users,
                "drop": links.drop[users],
                "port_shape": links.port_shape,
                "slot_duration": links.slot_duration,
                "subcarrier_spacing": links.subcarrier_spacing,
                "carrier_frequency": links.carrier_frequency,
            }


class StepBar(L.Callback):
    """One bar over the steps, with an estimate: there are no epochs here to count."""

    def __init__(self, steps: int):
        self.bar = Progress(
            TextColumn("        "),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            transient=True,
        )
        self.task = self.bar.add_task("", total=steps)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Show it."""
        self.bar.start()

    def on_train_batch_end(self, *_: Any) -> None:
        """One step further."""
        self.bar.advance(self.task)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Take it away, also after an interruption."""
        self.bar.stop()


def adapt(links: LinkBatch, demo: DemoArguments, lora_rank: int | None) -> torch.nn.Module:
    """The shipped model with trained adapters, or (no rank) a network of its shape trained from random weights."""
    from airlam.tasks import ChannelPrediction

    with quiet():
        L.seed_everything(demo.seed, verbose=False)
        options: dict[str, Any] = dict(learning_rate=demo.learning_rate, warmup_steps=max(1, demo.steps // 10))
        if lora_rank is not None:
            task = ChannelPrediction(checkpoint=demo.model, lora_rank=lora_rank, **options)
        else:
            task = ChannelPrediction(**options)
            task.model = load_predictor(demo.model).model.untrained().train()  # type: ignore[attr-defined]
        trainer = L.Trainer(
            accelerator="cpu",
            max_steps=demo.steps,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            gradient_clip_val=1.0,
            callbacks=[StepBar(demo.steps)],
        )
        trainer.fit(task, DataLoader(SiteWindows(links, demo), batch_size=None))
    return task.model.eval()


def as_predictor(network: torch.nn.Module) -> tuple[Predictor, int]:
    """A trained network as a predictor, adapters merged, and how many weights were trained."""
    from airlam.models import AirlamModel, AirlamPredictor

    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    model = network if isinstance(network, AirlamModel) else network.merge_and_unload()  # type: ignore[operator]
    return AirlamPredictor(model), trained
