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

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, RecordDict

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.federation import Federation
from airlam.edge.federated.learner import Learner
from airlam.edge.federated.sites import TRAIN, Site
from airlam.models.split import back, check_split, front, on_device
from airlam.resources import count_flops
from airlam.seeds import noise_seed
from airlam.tasks.objectives import ForecastTarget, forecast_target, predicted_error

STATE = "split"
KEPT = 16  # batches, as tokens: in one process all devices are at the same step
_TARGETS: dict[tuple, ForecastTarget] = {}
BETAS, EPS = (0.9, 0.98), 1e-8


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
        self.device: dict[str, torch.nn.Parameter] = {}
        self.server: dict[str, torch.nn.Parameter] = {}
        for layer, module in learner.layers.items():
            side = self.device if on_device(layer, self.layers) else self.server
            for name, factor in (("A", module.lora_A), ("B", module.lora_B)):
                if factor["default"].weight.requires_grad:
                    side[f"{name}/{layer}"] = factor["default"].weight

    def target(self, site: Site, server_round: int, step: int) -> ForecastTarget:
        """The batch of a step as tokens: the same whenever it is asked for; the last few are kept."""
        key = (self.federation.to_json(), site.spec.label, server_round, step)
        if key not in _TARGETS:
            while len(_TARGETS) >= KEPT:
                _TARGETS.pop(next(iter(_TARGETS)))
            _TARGETS[key] = self._target(site, server_round, step)
        return _TARGETS[key]

    def _target(self, site: Site, server_round: int, step: int) -> ForecastTarget:
        f = self.federation
        size = min(f.batch_size, len(site.train))
        generator = torch.Generator().manual_seed(noise_seed(f.seed, site.spec.seed, server_round, step))
        users = torch.randperm(len(site.train), generator=generator)[:size]
        past = site.measured(site.train, users, TRAIN, f.seed, server_round, step)
        future = site.train.h[users, f.history : f.history + f.horizon]
        return forecast_target(self.base, past, future, site.train.port_shape)

    def front(self, target: ForecastTarget) -> torch.Tensor:
        """1: the device's activations."""
        return front(self.base, target.tokens.features, self.layers)

    def back(self, x: torch.Tensor) -> torch.Tensor:
        """2: the server's part."""
        return back(self.base, x, self.layers)

    def loss(self, target: ForecastTarget, hidden: torch.Tensor) -> torch.Tensor:
        """3: the device's head and loss."""
        seen = target._replace(tokens=replace(target.tokens, hidden=hidden))
        return predicted_error(self.base, seen).log().mean()


def gradients(parameters: dict[str, torch.nn.Parameter]) -> Arrays:
    """Of each parameter, zero where none arrived; they are taken away from the parameters."""
    found = {}
    for name, p in parameters.items():
        found[name] = np.zeros(p.shape, np.float32) if p.grad is None else p.grad.numpy().copy()
        p.grad = None
    return found


def step_adamw(weights: Arrays, grads: Arrays, state: Arrays, rate: float, optimizer: str) -> None:
    """One step of torch's AdamW (or SGD) on arrays, in place; gradients are clipped to norm 1 together.

    ``state`` holds the moments and the count, so that it can lie in a message or on disk.
    """
    if optimizer == "sgd":
        for name, grad in grads.items():
            weights[name] = weights[name] - rate * grad
        return
    parameters = [torch.nn.Parameter(torch.from_numpy(weights[name].copy())) for name in grads]
    for p, name in zip(parameters, grads, strict=True):
        p.grad = torch.from_numpy(grads[name].copy())
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    adamw = torch.optim.AdamW(parameters, lr=rate, betas=BETAS, eps=EPS, weight_decay=0.0)
    if state:
        for p, name in zip(parameters, grads, strict=True):
            adamw.state[p] = {
                "step": torch.tensor(float(state["count"][0])),
                "exp_avg": torch.from_numpy(state[f"m:{name}"]),
                "exp_avg_sq": torch.from_numpy(state[f"v:{name}"]),
            }
    adamw.step()
    for p, name in zip(parameters, grads, strict=True):
        weights[name] = p.detach().numpy()
        state[f"m:{name}"] = adamw.state[p]["exp_avg"].numpy()
        state[f"v:{name}"] = adamw.state[p]["exp_avg_sq"].numpy()
    state["count"] = np.array([float(adamw.state[parameters[0]]["step"])], np.float32)


def write(parameters: dict[str, torch.nn.Parameter], weights: Arrays) -> None:
    """Set parameters from arrays."""
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(torch.from_numpy(np.array(weights[name])))


class DeviceSide:
    """What a device does on each message of a split round; its state lies in ``context``."""

    def __init__(self, split: SplitLearner, site: Site, context: Context):
        self.split, self.site, self.context = split, site, context

    def answer(self, content: RecordDict) -> tuple[dict[str, float], Arrays]:
        """Metrics and arrays for the server.

        The message's ``what`` is one of begin (with the round's adapters), forward (with the gradient of the last
        activations, but for the first step), loss (with ``hidden``), finish (with the last gradient).
        """
        began = time.perf_counter()
        config: Any = content["config"]
        what, number, step = str(config["what"]), int(config["server-round"]), int(config["step"])
        given = {name: np.array(array.numpy()) for name, array in content["arrays"].items()}  # type: ignore[union-attr]
        metrics: dict[str, float] = {"num-examples": len(self.site.train), "loss": 0.0}
        if what == "begin":
            self._save({f"w:{name}": value for name, value in given.items()})
            answer: Arrays = {"ready": np.zeros(1, np.float32)}
        elif what == "forward":
            if "gradient" in given:
                self._finish_step(given["gradient"], number, step - 1, float(config["learning-rate"]))
            self._load()
            with torch.no_grad():
                answer = {"x": self.split.front(self.split.target(self.site, number, step)).float().numpy()}
        elif what == "loss":
            self._load()
            hidden = torch.from_numpy(given["hidden"]).requires_grad_()
            loss = self.split.loss(self.split.target(self.site, number, step), hidden)
            loss.backward()
            assert hidden.grad is not None
            self._keep({f"g:{name}": value for name, value in gradients(self.split.device).items()})
            metrics["loss"], answer = float(loss.detach()), {"gradient": hidden.grad.numpy()}
        else:
            self._finish_step(given["gradient"], number, step, float(config["learning-rate"]))
            answer = self._part("w:")
        metrics["seconds"] = time.perf_counter() - began
        return metrics, answer

    def _finish_step(self, gradient: np.ndarray, number: int, step: int, rate: float) -> None:
        self._load()
        self.split.front(self.split.target(self.site, number, step)).backward(torch.from_numpy(gradient))
        grads = {name: value + self._part("g:")[name] for name, value in gradients(self.split.device).items()}
        weights, moments = self._part("w:"), self._part("o:")
        step_adamw(weights, grads, moments, rate, self.split.federation.optimizer)
        self._save({f"w:{k}": v for k, v in weights.items()} | {f"o:{k}": v for k, v in moments.items()})

    def _part(self, prefix: str) -> Arrays:
        stored = self.context.state[STATE] if STATE in self.context.state else ArrayRecord()
        return {
            name.removeprefix(prefix): np.array(array.numpy())
            for name, array in stored.items()  # type: ignore[union-attr]
            if name.startswith(prefix)
        }

    def _load(self) -> None:
        write(self.split.device, self._part("w:"))

    def _keep(self, more: Arrays) -> None:
        old = {f"{prefix}{k}": v for prefix in ("w:", "o:") for k, v in self._part(prefix).items()}
        self._save(old | more)

    def _save(self, arrays: Arrays) -> None:
        self.context.state[STATE] = ArrayRecord({name: Array(value) for name, value in arrays.items()})


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
