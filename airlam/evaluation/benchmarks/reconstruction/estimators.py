"""From a method's name in a recipe to something that estimates: classical methods tuned in each cell, models."""

from __future__ import annotations

import inspect
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from airlam import baselines
from airlam.channels import LinkBatch
from airlam.csi import measure, series_along
from airlam.evaluation.engine.quiet import quiet
from airlam.interfaces import Estimator
from airlam.loading import load_predictor
from airlam.methods import get

GENIE = "lmmse-genie"


def tuned_classic(
    name: str,
    covariance: Tensor,
    measured: Tensor,
    truth: Tensor,
    observed: Tensor,
    wanted: Tensor,
    *,
    axis: str,
    port_shape: Any,
) -> tuple[Estimator, dict[str, Any]]:
    """A classical estimator tuned on validation links, and what was chosen."""
    method = get(name, "estimator")
    fixed: dict[str, Any] = {}
    if axis != "subcarrier" and name.endswith("-sample"):
        fixed = {"causal": False}  # directions have no sign that is ruled out
    if axis != "subcarrier" and name == "dft":
        fixed = {"centre": 0.0}

    if "covariance" in inspect.signature(method.load()).parameters:
        fixed["covariance"] = covariance

    def make(**arguments: Any) -> Estimator:
        made = method.build(**fixed, **arguments)
        return made if isinstance(made, Estimator) else baselines.PredictorExtrapolator(made)

    found = baselines.tune_estimator(
        make, method.grid, measured, truth, observed, wanted, axis=axis, port_shape=port_shape
    )
    shown = {k: "inf" if isinstance(v, float) and v == float("inf") else v for k, v in found.items()}
    return make(**found), shown


def genie_context(links: LinkBatch, axis: str) -> dict[str, Tensor]:
    """The covariance of every link along an axis, from its own rays."""
    length = series_along(links.h[:1], axis, links.port_shape)[0].shape[1]
    return {
        "axis_covariance": baselines.ray_covariance(
            links.rays,
            axis,
            length,
            port_shape=links.port_shape,
            slot_duration=links.slot_duration,
            subcarrier_spacing=links.subcarrier_spacing,
        )
    }


class FewLinks(IterableDataset):
    """Endless batches from a few links: random ones, fresh noise, one SNR for each batch; a seed fixes them all."""

    def __init__(self, h: Tensor, port_shape: Any, csi_snr_db: tuple[float, float], batch_size: int, seed: int):
        self.h, self.port_shape, self.csi_snr_db = h, port_shape, csi_snr_db
        self.batch_size, self.seed = batch_size, seed

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed)
        low, high = self.csi_snr_db
        while True:
            index = torch.randint(len(self.h), (self.batch_size,), generator=generator)
            snr = low + (high - low) * float(torch.rand((), generator=generator))
            h = self.h[index]
            yield {"h_past": measure(h, snr, generator), "h_past_true": h, "port_shape": self.port_shape}


def adapt(
    model: str,
    batches: FewLinks,
    *,
    axis: str,
    patterns: list[str],
    steps: int,
    lora_rank: int | None = None,
    random_start: bool = False,
    learning_rate: float = 5e-4,
    seed: int = 1,
) -> torch.nn.Module:
    """The shipped model after ``steps`` steps of :class:`airlam.tasks.Reconstruction`; ``random_start``: a network of
    its shape from random weights, on the same batches."""
    from airlam.tasks import Reconstruction

    with quiet():
        L.seed_everything(seed, verbose=False)
        options: dict[str, Any] = dict(
            axis=axis, patterns=patterns, slots=batches.h.shape[1], warmup_steps=max(1, steps // 10)
        )
        if random_start:
            task = Reconstruction(learning_rate=2 * learning_rate, **options)
            task.model = load_predictor(model).model.untrained()  # type: ignore[attr-defined]
        else:
            # adapters need a higher rate than whole weights
            rate = learning_rate if lora_rank is None else 2 * learning_rate
            task = Reconstruction(checkpoint=model, lora_rank=lora_rank, learning_rate=rate, **options)
        task.model.train()
        trainer = L.Trainer(
            accelerator="cpu",
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            gradient_clip_val=1.0,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        trainer.fit(task, DataLoader(batches, batch_size=None))
    return task.model.eval()
