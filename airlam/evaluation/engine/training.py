"""Adaptation to one site: a few steps from a given start, stopped where the site's validation users are served best."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from airlam.channels import LinkBatch
from airlam.csi import measure
from airlam.errors import RecipeError
from airlam.models import AirlamModel, add_lora
from airlam.tasks.objectives import forecast_error
from airlam.tasks.optimisation import adamw_with_warmup

CHECKS = 5  # looks at the validation users, evenly over the steps; the start itself is one more


@dataclass(frozen=True)
class Choice:
    """How to adapt: ``lora_rank`` (None: all weights) and the peak of the learning rate."""

    learning_rate: float
    lora_rank: int | None = None

    @classmethod
    def of(cls, data: Any) -> Choice:
        """From a recipe: ``{learning_rate: 3.0e-4, lora_rank: 8}``."""
        if not isinstance(data, dict) or not set(data) <= {"learning_rate", "lora_rank"} or "learning_rate" not in data:
            raise RecipeError(f"an adaptation is {data!r}, but must hold learning_rate and, if wanted, lora_rank")
        rate, rank = data["learning_rate"], data.get("lora_rank")
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < 1:
            raise RecipeError(f"learning_rate is {rate!r}, but must be a number between 0 and 1")
        if rank is not None and (not isinstance(rank, int) or rank < 1):
            raise RecipeError(f"lora_rank is {rank!r}, but must be a whole number of at least 1, or null")
        return cls(float(rate), rank)

    def __str__(self) -> str:
        return f"{'all weights' if self.lora_rank is None else f'LoRA {self.lora_rank}'}, rate {self.learning_rate:g}"


@dataclass
class Adapted:
    """What came out: the model, mean dB of the validation users' NMSE, the step it was taken at, weights trained."""

    model: AirlamModel
    val_db: float
    step: int
    trained: int


def adapt(
    start: AirlamModel,
    links: LinkBatch,
    validation: LinkBatch,
    choice: Choice,
    *,
    steps: int,
    batch_size: int,
    history: int,
    csi_snr_db: float,
    seed: int,
    precision: str = "float32",
) -> Adapted:
    """Train a copy of ``start`` on random links with fresh noise; keep the best of a few looks at ``validation``.

    The start is one of those looks: what makes things worse on validation is not kept.

    A model with ``config.context`` is told velocities and positions.

    Args:
        links: the site's links that may be used, ``h [link, history + horizon, ...]``.
        validation: other users of the site; their noise is fixed.
        seed: of adapters, batches and noise.
        precision: ``"bfloat16"`` computes the backbone in bfloat16 while training; faster on CPUs that have it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = copy.deepcopy(start)
        model.config._name_or_path = ""  # adapters ask where their base lies; this one lies nowhere
        model = model if choice.lora_rank is None else add_lora(model, choice.lora_rank)
    fast = precision == "bfloat16"
    if fast:
        model.backbone.set_attn_implementation("eager")  # the fused one has a slow backward pass in bfloat16
    trainable = [p for p in model.parameters() if p.requires_grad]
    parts = adamw_with_warmup(
        model, learning_rate=choice.learning_rate, weight_decay=0.0, warmup_steps=max(1, steps // 10), total_steps=steps
    )
    optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
    generator = torch.Generator().manual_seed(seed)
    past = measure(validation.h[:, :history], csi_snr_db, torch.Generator().manual_seed(seed))
    best_db, best_step = validate(model, past, validation, history), 0
    best = [p.detach().clone() for p in trainable]
    looks = {round(steps * (n + 1) / CHECKS) for n in range(CHECKS)}
    order = torch.empty(0, dtype=torch.int64)
    model.train()
    for step in range(1, steps + 1):
        if len(order) < min(batch_size, len(links)):
            order = torch.cat([order, torch.randperm(len(links), generator=generator)])
        users, order = order[:batch_size], order[batch_size:]
        h = links.h[users]
        seen = measure(h[:, :history], csi_snr_db, generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            error = forecast_error(model, seen, h[:, history:], links.port_shape, readings(links, users))
            loss = error.nmse.log().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        schedule.step()
        if step in looks:
            val_db = validate(model, past, validation, history)
            if val_db < best_db:
                best_db, best_step, best = val_db, step, [p.detach().clone() for p in trainable]
    with torch.no_grad():
        for p, value in zip(trainable, best, strict=True):
            p.copy_(value)
    trained = sum(p.numel() for p in trainable)
    model = model if choice.lora_rank is None else model.merge_and_unload()
    return Adapted(model.eval(), best_db, best_step, trained)


def readings(links: LinkBatch, users: Tensor | slice) -> dict[str, Any]:
    """What the sensors of some users say, all of them and at once; only a model with ``config.context`` listens."""
    return {
        "velocity": links.velocity[users],
        "position": links.position[users],
        "carrier_frequency": links.carrier_frequency,
        "slot_duration": links.slot_duration,
        "subcarrier_spacing": links.subcarrier_spacing,
    }


def validate(model: Any, past: Tensor, links: LinkBatch, history: int, chunk: int = 32) -> float:
    """Mean over links of the NMSE in dB: slow users count as much as fast ones."""
    training = model.training
    model.eval()
    with torch.no_grad():
        errors = []
        for part in (slice(n, n + chunk) for n in range(0, len(past), chunk)):
            truth = links.h[part, history:]
            errors.append(forecast_error(model, past[part], truth, links.port_shape, readings(links, part)).nmse)
    model.train(training)
    return float(10 * torch.cat(errors).log10().mean())
