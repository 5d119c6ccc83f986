"""The server's part of split models: the backbone with its adapters, at every depth at which devices are split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.learning.split import SplitLearner, gradients
from airlam.edge.federated.recipe.federation import Federation


class Backbone:
    """The layers that split devices leave to the server.

    Args:
        learner: the server's own model; the layers at all depths are its.

    Attributes:
        parameters: the adapters that the server trains, by the names that travel.
        width: of the activations that cross the link.
    """

    def __init__(self, federation: Federation, learner: Learner):
        depths = {site.split_layers for site in federation.site_specs if site.mode == "split"}
        self._learner = learner
        self._splits = {layers: SplitLearner(federation, learner, layers) for layers in depths}
        self.parameters = {name: p for split in self._splits.values() for name, p in split.server.items()}
        self.width: int = learner.model.get_base_model().backbone.config.hidden_size

    def load(self, arrays: Arrays, number: int) -> Arrays:
        """Set the weights of round ``number``; the arrays of the adapters that the server trains."""
        self._learner.load(arrays, number)
        return {name: arrays[name] for name in self.parameters}

    def forward(self, inputs: dict[int, torch.Tensor], depths: dict[int, int]) -> dict[int, torch.Tensor]:
        """The backbone's output for every node; nodes of one depth and one number of tokens form a batch.

        Args:
            inputs: node -> activations ``[user, token, width]``. depths: node -> layers on the device.
        """
        groups: dict[tuple, list[int]] = {}
        for node, x in inputs.items():
            groups.setdefault((depths[node], *x.shape[1:]), []).append(node)
        hidden: dict[int, torch.Tensor] = {}
        for (layers, *_), group in groups.items():
            sizes = [len(inputs[node]) for node in group]
            out = self._splits[layers].back(torch.cat([inputs[node] for node in group])).split(sizes)
            hidden |= dict(zip(group, out, strict=True))
        return hidden

    def mean_gradients(self, depths: Iterable[int]) -> Arrays:
        """The gradients after a backward pass, each as the mean over the devices that leave its layer to the server.

        Args:
            depths: layers on the device, of each device that took part in the pass.
        """
        held = Counter(name for depth in depths for name in self._splits[depth].server)
        return {name: grad / max(1, held[name]) for name, grad in gradients(self.parameters).items()}
