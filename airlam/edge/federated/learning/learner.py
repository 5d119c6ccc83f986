"""One client's training: load what the server sent, take a few steps on the site's users, give back what changed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from airlam.edge.federated.adapters import SCALE, Arrays, Shapes, as_arrays, fitted
from airlam.edge.federated.learning.objectives import Objective, make_objective, trained
from airlam.edge.federated.learning.optimisers import optimiser
from airlam.edge.federated.learning.sites import VAL, Site
from airlam.edge.federated.recipe.federation import Federation
from airlam.models import lora_layers
from airlam.resources import count_flops
from airlam.seeds import noise_seed


class Learner:
    """A model whose adapters (or all of whose weights) can be set and read as arrays.

    Args:
        rank: of this device's adapters; None: all weights are trained.
    """

    def __init__(self, federation: Federation, rank: int | None):
        self.federation, self.rank = federation, rank
        self.objective: Objective = make_objective(federation, rank)
        self.model: Any = self.objective.model
        self.layers = {} if rank is None else lora_layers(self.model)
        self.plain = {name: layer.base_layer.weight.detach().clone() for name, layer in self.layers.items()}
        if federation.scheme.freezes_a:
            for layer in self.layers.values():
                layer.lora_A["default"].weight.requires_grad_(False)
        self.flops: dict[tuple, int] = {}
        self.initial = as_arrays(trained(self.model)) if rank is None else {}

    @property
    def shapes(self) -> Shapes:
        """Adapted layer -> (out, in)."""
        return {name: tuple(weight.shape) for name, weight in self.plain.items()}

    def start(self) -> Arrays:
        """What the server begins with: adapters of the largest rank that change nothing, or all weights as they are."""
        f = self.federation
        if self.rank is None:
            return {name: value.copy() for name, value in self.initial.items()}
        return f.scheme.start(self.shapes, f.largest_rank, f.seed)

    def load(self, arrays: Arrays, server_round: int) -> None:
        """Set what the server sent in a round; adapters are cut to this device's rank, and factors that the scheme does
        not send are drawn."""
        if self.rank is None:
            parameters = trained(self.model)
            with torch.no_grad():
                for name, value in arrays.items():
                    parameters[name].copy_(torch.from_numpy(value))
            return
        f = self.federation
        arrays = fitted(arrays, self.rank) | f.scheme.drawn(self.shapes, self.rank, f.seed, server_round)
        with torch.no_grad():
            for name, layer in self.layers.items():
                layer.lora_A["default"].weight.copy_(torch.from_numpy(arrays[f"A/{name}"]))
                layer.lora_B["default"].weight.copy_(torch.from_numpy(arrays[f"B/{name}"]))
                dense = arrays.get(f"W/{name}")
                changed = self.plain[name] if dense is None else self.plain[name] + SCALE * torch.from_numpy(dense)
                layer.base_layer.weight.copy_(changed)

    def arrays(self) -> Arrays:
        """What the device sends: its adapters (B alone where A is frozen), or all weights."""
        if self.rank is None:
            return as_arrays(trained(self.model))
        b = {f"B/{name}": layer.lora_B["default"].weight for name, layer in self.layers.items()}
        if self.federation.scheme.freezes_a:
            return as_arrays(b)
        return as_arrays({f"A/{name}": layer.lora_A["default"].weight for name, layer in self.layers.items()} | b)

    def train(
        self, site: Site, server_round: int, *, learning_rate: float, proximal_mu: float = 0.0, steps: int | None = None
    ) -> dict[str, float]:
        """Local steps on the site's training users; batches and noise follow from seed, site and round.

        FedProx's term is taken against the weights as they are when this is called.
        """
        f, began = self.federation, time.perf_counter()
        steps = f.local_steps if steps is None else steps
        parameters = list(trained(self.model).values())
        anchor = [p.detach().clone() for p in parameters] if proximal_mu else []
        optimizer = optimiser(f, parameters, learning_rate)
        generator = torch.Generator().manual_seed(noise_seed(f.seed, site.spec.seed, server_round))
        size = min(f.batch_size, len(site.train))
        order = torch.empty(0, dtype=torch.int64)
        self.model.train()
        losses = []
        for step in range(steps):
            while len(order) < size:
                order = torch.cat([order, torch.randperm(len(site.train), generator=generator)])
            users, order = order[:size], order[size:]
            loss = self.objective.loss(site, users, f.seed, server_round, step)
            losses.append(loss.item())
            if proximal_mu:
                drift = sum((p - a).square().sum() for p, a in zip(parameters, anchor, strict=True))
                loss = loss + proximal_mu / 2 * drift
            optimizer.zero_grad()
            loss.backward()
            if f.optimizer == "adamw":
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        self.model.eval()
        seconds = time.perf_counter() - began
        flops = steps * self.step_flops(site, size)
        return {"loss": float(np.mean(losses)), "steps": steps, "seconds": seconds, "flops": float(flops)}

    def step_flops(self, site: Site, size: int) -> int:
        """Operations of one training step on ``size`` users, counted once for each shape of data."""
        key = (size, tuple(site.train.h.shape[2:]))
        if key not in self.flops:
            users = torch.arange(len(site.train))[:size]
            with torch.random.fork_rng(devices=[]):
                self.flops[key] = count_flops(lambda: self.objective.loss(site, users, 0).backward())
            self.model.zero_grad()
        return self.flops[key]

    def validate(self, site: Site) -> float:
        """Mean figure over the site's validation users; their noise is the same every time."""
        self.model.eval()
        return float(self.objective.score(site, site.val, VAL, self.federation.seed).mean())
