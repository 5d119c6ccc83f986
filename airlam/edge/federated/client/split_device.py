"""A device's side of split training: what it does on each message of a round."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, RecordDict

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.learning.optimisers import step_arrays
from airlam.edge.federated.learning.sites import Site
from airlam.edge.federated.learning.split import SplitLearner, gradients, write

STATE = "split"


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
        step_arrays(weights, grads, moments, rate, self.split.federation.optimizer)
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
