"""What tests of parallel training compare with: start models, batches, plain training in one process; and the ranks.

All start models have weights as if they had learned something: a fresh head is zero, and would hide every gradient.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from airlam.models import AirlamConfig, AirlamModel, load_checkpoint, save_checkpoint
from airlam.tasks import ChannelPrediction, Pretraining
from airlam.tasks.objectives import predicted_error
from airlam.tasks.optimisation import adamw_with_warmup

RANKS = Path(__file__).parent / "ranks.py"
STEPS = 10  # of the learning rate's schedule
LINKS = 8  # of a batch
ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 64,
    "vocab_size": 2,
}
BACKBONES: dict[str, dict[str, Any]] = {
    "own": {"model_type": "roberta-prelayernorm", "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 1, **ENCODER},
    "bert": {"model_type": "bert", "pad_token_id": 0, **ENCODER},
    "llama": {  # two queries share a key head
        "model_type": "llama",
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "vocab_size": 2,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 1,
    },
    "sensors": {"model_type": "bert", "pad_token_id": 0, **ENCODER, "num_hidden_layers": 1},
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": 32,
        "n_layer": 4,
        "n_head": 4,
        "n_inner": 64,
        "n_positions": 64,
        "vocab_size": 2,
        "bos_token_id": 0,
        "eos_token_id": 1,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    },
}


LEARNING_RATE = {"sgd": 1.0, "adamw": 1e-3}


def make_task(model: str, objective: str, optimiser: str) -> dict[str, Any]:
    """The task of a run that starts from a model of :data:`BACKBONES`, or a shipped one."""
    if objective == "prediction":
        return {
            "class_path": "airlam.tasks.ChannelPrediction",
            "init_args": {
                "learning_rate": LEARNING_RATE[optimiser],
                "warmup_steps": 2,
                "weight_decay": 0.1,
                **({"context": ["velocity", "position"], "context_dropout": 0.4} if model == "sensors" else {}),
            },
        }
    arguments = {
        "learning_rate": LEARNING_RATE[optimiser],
        "warmup_steps": 2,
        "weight_decay": 0.1,
        "mask_probability": 0.6,
        "mask_axes": {"slot": 0.5, "subcarrier": 0.5},
    }
    return {"class_path": "airlam.tasks.Pretraining", "init_args": arguments}


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """A folder with start checkpoints of all backbones, and batches."""
    folder = tmp_path_factory.mktemp("equality")
    for number, (name, backbone) in enumerate(BACKBONES.items()):
        torch.manual_seed(number)
        sizes = {"num_tokens": 12, "num_groups": 3, "group_size": 4, "error_variance": True}
        sensors = ["velocity", "position"] if name == "sensors" else []
        model = AirlamModel(AirlamConfig(**sizes, context=sensors, backbone=dict(backbone)))
        draw_weights(model)
        save_checkpoint(model, folder / name)
    generator = torch.Generator().manual_seed(1)
    batches = []
    for _ in range(3):
        h = (torch.randn(LINKS, 20, 12, 1, 8, dtype=torch.complex64, generator=generator)).cumsum(1) * 0.3
        noisy = h + 0.1 * torch.randn(h.shape, dtype=torch.complex64, generator=generator)
        known = {name: 10 * torch.randn(LINKS, 3, generator=generator) for name in ("velocity", "position")}
        radio = {"carrier_frequency": 3.5e9, "slot_duration": 1e-3, "subcarrier_spacing": 60e3, "port_shape": (2, 4, 1)}
        batches.append({"h_past": noisy[:, :16], "h_past_true": h[:, :16], "h_future": h[:, 16:], **known, **radio})
    torch.save(batches, folder / "batches.pt")
    return folder


def start_of(place: Path, model: str) -> str:
    """What a run names to start from a model."""
    return str(place / model) if model in BACKBONES else model


@torch.no_grad()
def draw_weights(model: AirlamModel) -> None:
    """Weights of a model that has learned something: attention that tells tokens apart, no bias zero, no norm one."""
    for value in model.parameters():
        if value.dim() == 1:
            value += 0.2 * torch.randn_like(value)
        elif value.requires_grad:
            value.normal_(std=32**-0.5)
    model.head.weight.mul_(0.3)


@dataclass
class Alone:
    """Training in one process.

    Attributes:
        weights: before the first step, and after each. losses, norms: of the steps. grads: of the first two steps.
        tokens: of a link in every step. masked: which steps hide samples.
    """

    weights: list[dict[str, torch.Tensor]]
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    grads: list[dict[str, torch.Tensor]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    masked: list[bool] = field(default_factory=list)


@pytest.fixture(scope="session")
def alone(place):
    """``alone(model=..., ...)``: plain training in this process, with autograd and torch's optimisers."""
    batches = torch.load(place / "batches.pt", weights_only=True)

    @functools.cache
    def train(
        model: str = "own",
        objective: str = "pretraining",
        precision: str = "64-true",
        optimiser: str = "sgd",
        clip: float | None = None,
        loops: int = 1,
        steps: int = STEPS,
    ) -> Alone:
        given = make_task(model, objective, optimiser)["init_args"]
        task = (Pretraining if objective == "pretraining" else ChannelPrediction)(**given)
        return follow(task, load_checkpoint(start_of(place, model)), given, precision, optimiser, clip, loops, steps)

    def follow(task, model, given, precision, optimiser, clip, loops, steps) -> Alone:
        task.model = model.train()
        model.config.loops = loops
        if precision == "64-true":
            for part, module in model.named_children():
                if part != "tracker":
                    module.double()
        if optimiser == "sgd":
            chosen = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=given["learning_rate"])
            schedule = None
        else:
            arguments = {key: given[key] for key in ("learning_rate", "warmup_steps", "weight_decay")}
            made = adamw_with_warmup(model, **arguments, total_steps=STEPS)
            chosen, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
        found = Alone([weights_of(model)])
        for step in range(steps):
            target, axis = task.target(batches[step % len(batches)], step)
            target = target.double() if precision == "64-true" else target
            found.tokens.append(target.tokens.features.shape[1])
            found.masked.append(axis is not None)
            loss = torch.log(predicted_error(model, target)).mean()
            chosen.zero_grad()
            loss.backward()
            trained = {n: p for n, p in model.named_parameters() if p.grad is not None}
            if step < 2:
                found.grads.append({n: p.grad.clone() for n, p in trained.items()})
            norm = torch.nn.utils.clip_grad_norm_(trained.values(), clip if clip is not None else float("inf"))
            chosen.step()
            if schedule is not None:
                schedule.step()
            found.losses.append(loss.item())
            found.norms.append(float(norm))
            found.weights.append(weights_of(model))
        return found

    return train


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all that a model stores."""
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.fixture(scope="session")
def arguments(place):
    """``arguments(model=..., ...)``: those of a ParallelTraining that :func:`alone` can be compared with."""

    def given(
        model: str = "own", objective: str = "pretraining", optimiser: str = "sgd", **more: Any
    ) -> dict[str, Any]:
        return {
            "task": make_task(model, objective, optimiser),
            "data": "tiny",
            "checkpoint": start_of(place, model),
            "precision": "64-true",
            "optimiser": optimiser,
            "clip": None,
            "steps": STEPS,
            **more,
        }

    return given


@pytest.fixture(scope="session")
def on_ranks(place):
    """``on_ranks(folder, launches)``: what ranks.py writes of all cases, by name: a dictionary, or an error's text."""

    def launch(folder: Path, launches: list[dict[str, Any]]) -> dict[str, Any]:
        spec = {"batches": str(place / "batches.pt"), "out": str(folder), "launches": launches}
        (folder / "spec.json").write_text(json.dumps(spec))
        ran = subprocess.run([sys.executable, RANKS, folder / "spec.json"], capture_output=True, text=True, timeout=600)
        assert ran.returncode == 0, ran.stderr[-3000:]
        found: dict[str, Any] = {}
        for case in (case for one in launches for case in one["cases"]):
            path = folder / f"{case['name']}.pt"
            if path.exists():
                found[case["name"]] = torch.load(path, weights_only=True)
            elif path.with_suffix(".error").exists():
                found[case["name"]] = path.with_suffix(".error").read_text()
        return found

    return launch
