"""Split federated fine-tuning: embedding and head (and some layers) on the devices, the backbone on the edge server.

A step of all devices of a round, each on a batch of its own users:

1. device -> server: activations ``x``; server: the backbone on all of them at once
2. server -> device: ``hidden``; device: head, loss, gradient of ``hidden`` and of its own adapters there
3. device -> server: gradient of ``hidden``; server: backward, one step of its adapters on the mean over devices
4. server -> device: gradient of ``x``; device: backward through the embedding, one step of its adapters

4 travels with the message that asks for the next 1. Each of the four tensors is ``4 * batch * tokens * width`` bytes.
At the end of a round the devices' adapters are averaged by the run's strategy; the server's need no averaging. Both
sides' optimisers start anew with each round, as in local training. The backbone computes in single precision.

A device keeps its adapters, their optimiser and half a step's gradients in Flower's context between messages, so any
process may answer for it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.learning.sites import TRAIN, Site
from airlam.edge.federated.recipe.federation import Federation
from airlam.models.split import back, check_split, front, on_device
from airlam.resources import count_flops
from airlam.seeds import noise_seed
from airlam.tasks.objectives import Target, forecast_target, predicted_error

KEPT = 16  # batches as tokens: each is asked for by three messages, and in one process all devices are at the same step


class SplitLearner:
    """A learner whose adapters lie in two places.

    Args:
        learner: with adapters everywhere; what belongs to the other side is left alone.
        layers: of the backbone that stay on the device.

    Attributes:
        device, server: the adapters of each side, by the names that travel (``B/layer``).
    """

    def __init__(self, federation: Federation, learner: Learner, layers: int):
        self.federation, self.learner, self.layers = federation, learner, layers
        self.base = learner.model.get_base_model()
        check_split(self.base, self.layers)
        self._targets: dict[tuple[str, int, int], Target] = {}
        self.device: dict[str, torch.nn.Parameter] = {}
        self.server: dict[str, torch.nn.Parameter] = {}
        for layer, module in learner.layers.items():
            side = self.device if on_device(layer, self.layers) else self.server
            for name, factor in (("A", module.lora_A), ("B", module.lora_B)):
                if factor["default"].weight.requires_grad:
                    side[f"{name}/{layer}"] = factor["default"].weight

    def target(self, site: Site, server_round: int, step: int) -> Target:
        """The batch of a step as tokens: the same whenever it is asked for; the last few are kept."""
        key = (site.spec.label, server_round, step)
        if key not in self._targets:
            while len(self._targets) >= KEPT:
                self._targets.pop(next(iter(self._targets)))
            self._targets[key] = self._target(site, server_round, step)
        return self._targets[key]

    def _target(self, site: Site, server_round: int, step: int) -> Target:
        f = self.federation
        size = min(f.batch_size, len(site.train))
        generator = torch.Generator().manual_seed(noise_seed(f.seed, site.spec.seed, server_round, step))
        users = torch.randperm(len(site.train), generator=generator)[:size]
        past = site.measured(site.train, users, TRAIN, f.seed, server_round, step)
        future = site.train.h[users, f.history : f.history + f.horizon]
        return forecast_target(self.base, past, future, site.train.port_shape)

    def front(self, target: Target) -> torch.Tensor:
        """1: the device's activations."""
        return front(self.base, target.tokens.features, self.layers)

    def back(self, x: torch.Tensor) -> torch.Tensor:
        """2: the server's part."""
        return back(self.base, x, self.layers)

    def loss(self, target: Target, hidden: torch.Tensor) -> torch.Tensor:
        """3: the device's head and loss."""
        seen = target._replace(tokens=replace(target.tokens, hidden=hidden))
        return predicted_error(self.base, seen).log().mean()


def gradients(parameters: dict[str, torch.nn.Parameter]) -> Arrays:
    """The gradient of each parameter, zero where there is none; the parameters' own are cleared."""
    found = {}
    for name, p in parameters.items():
        found[name] = np.zeros(p.shape, np.float32) if p.grad is None else p.grad.numpy().copy()
        p.grad = None
    return found


def write(parameters: dict[str, torch.nn.Parameter], weights: Arrays) -> None:
    """Set parameters from arrays."""
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(torch.from_numpy(np.array(weights[name])))


def activation_bytes(batch: int, tokens: int, width: int, steps: int) -> int:
    """Bytes of values that cross a device's link in ``steps`` steps, up and down, adapters and headers not counted.

    Example:
        >>> activation_bytes(batch=16, tokens=80, width=128, steps=1)
        2621440
    """
    return 4 * 4 * batch * tokens * width * steps


def device_costs(split: SplitLearner, site: Site) -> dict[str, float]:
    """What a step costs: operations of the device's and the server's parts, and bytes of activations and gradients
    each way."""
    target = split.target(site, 0, 0)
    x = split.front(target).detach()

    def work() -> None:
        split.front(target).backward(torch.ones_like(x))
        split.loss(target, x.clone().requires_grad_()).backward()

    flops = count_flops(work)
    inside = count_flops(lambda: split.back(x.clone().requires_grad_()).backward(torch.ones_like(x)))
    gradients(split.device | split.server)
    return {"flops": float(flops), "activations": float(2 * 4 * x.numel()), "server-flops": float(inside)}
