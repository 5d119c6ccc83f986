"""A round of split training on the server: it leads the steps of all split devices together."""

from __future__ import annotations

import numpy as np
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.learning.optimisers import learning_rate, step_arrays
from airlam.edge.federated.learning.split import write
from airlam.edge.federated.messages import arrays_of, numbers_of, size_of, to_record
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.backbone import Backbone
from airlam.edge.federated.server.exchange import Exchange
from airlam.edge.federated.server.record import RoundRecord
from airlam.edge.federated.server.roster import Roster

Nodes = dict[int, Arrays]  # node id -> what it is sent, or has sent
TIMEOUT = 600.0  # seconds that the server waits for the replies of a step


class SplitRound:
    """The steps of one round, before the messages that end it.

    A split device's update is its own adapters and, of the layers that it does not hold, the server's. So devices that
    are split at different layers, and devices that are not split, are averaged alike by the run's strategy.

    Args:
        record: of the round; bytes, losses and rejected devices are noted there.

    Attributes:
        losses: of each device and step.
    """

    def __init__(self, federation: Federation, grid: Grid, roster: Roster, backbone: Backbone, record: RoundRecord):
        self.federation, self.grid, self.roster = federation, grid, roster
        self.backbone, self.record = backbone, record
        self.depths: dict[int, int] = {}  # node -> layers on the device
        # the server's adapters; they may come back factorised anew, so old moments would belong to other directions
        self.weights: Arrays = {}
        self.moments: Arrays = {}
        self.losses: list[float] = []
        self.number, self.rate = record.number, learning_rate(federation, record.number)

    def run(
        self, arrays: Arrays, messages: list[Message], sent: dict[int, Arrays], exchange: Exchange
    ) -> list[Message]:
        """All steps of the split devices but the last half of the last one. The returned messages ask split devices for
        that half and their adapters, and local devices for their whole training.

        Args:
            arrays: the server's. messages: to all devices of the round. sent: number of a site -> its arrays.
        """
        sites = {m.metadata.dst_node_id: self.roster.sites[m.metadata.dst_node_id] for m in messages}
        specs = {node: self.federation.site_specs[site] for node, site in sites.items()}
        self.depths = {node: spec.split_layers for node, spec in specs.items() if spec.mode == "split"}
        self.weights = self.backbone.load(arrays, self.number)
        mine = {node: exchange.on_device(sites[node], sent[sites[node]]) for node in self.depths}
        pending: Nodes = {node: {} for node in self._ask("begin", mine, 0)}
        for step in range(self.federation.local_steps):
            pending = self._step(pending, step)
        others = [message for message in messages if message.metadata.dst_node_id not in self.depths]
        return others + self._messages("finish", pending, self.federation.local_steps - 1)

    def complete(self, sent: Arrays, update: Arrays) -> Arrays:
        """A split device's adapters with the server's for the layers that it does not hold."""
        return {**sent, **self.weights, **update}

    def _step(self, pending: Nodes, step: int) -> Nodes:
        """One step of every device that is left; what each is sent with the next message."""
        x = {node: answer["x"] for node, answer in self._ask("forward", pending, step).items()}
        if not x:
            return {}
        write(self.backbone.parameters, self.weights)
        inputs = {node: torch.from_numpy(value).requires_grad_() for node, value in x.items()}
        hidden = self.backbone.forward(inputs, self.depths)
        wild = [node for node, value in hidden.items() if not value.isfinite().all()]
        for node in wild:
            self._reject(node, f"its x, of up to {np.abs(x[node]).max():.3g}, leaves the range of single precision")
            del inputs[node]
        if wild:  # they shared a batch with the others, whose gradients they would spoil
            hidden = self.backbone.forward(inputs, self.depths)
        answers = self._ask("loss", {node: {"hidden": value.detach().numpy()} for node, value in hidden.items()}, step)
        for node in [n for n, answer in answers.items() if answer["gradient"].shape != hidden[n].shape]:
            self._reject(node, f"its gradient has shape {answers.pop(node)['gradient'].shape}")
        if not answers:  # lost in between, all of them
            return {}
        torch.autograd.backward(
            [hidden[node] for node in answers],
            [torch.from_numpy(answer["gradient"]) for answer in answers.values()],
        )
        self._step_server({node: x[node] for node in answers}, answers)
        return {node: {"gradient": inputs[node].grad.numpy()} for node in answers}  # type: ignore[union-attr]

    def _step_server(self, x: dict[int, np.ndarray], answers: Nodes) -> None:
        """One step of the server's adapters. If a gradient is not finite the step is left out, and so is the device
        that sent the largest values, measured against the others'."""
        grads = self.backbone.mean_gradients(self.depths[node] for node in answers)
        if all(np.isfinite(grad).all() for grad in grads.values()):
            step_arrays(self.weights, grads, self.moments, self.rate, self.federation.optimizer)
            return
        _, worst, size = max(largest(x), largest({node: answer["gradient"] for node, answer in answers.items()}))
        self._reject(worst, f"its values of up to {size:.3g} leave the range of single precision")
        del answers[worst]

    def _messages(self, what: str, nodes: Nodes, step: int) -> list[Message]:
        config = {"what": what, "server-round": self.number, "step": step, "learning-rate": self.rate}
        messages = []
        for node, arrays in nodes.items():
            site = self.roster.sites[node]
            self.record.down_bytes[site] = self.record.down_bytes.get(site, 0) + size_of(arrays)
            content = RecordDict({"arrays": to_record(arrays), "config": ConfigRecord(dict(config))})
            messages.append(Message(content, node, "train.split"))
        return messages

    def _ask(self, what: str, nodes: Nodes, step: int) -> Nodes:
        """Send each node its arrays and wait; a node that fails is out for the round."""
        answers: Nodes = {}
        messages = self._messages(what, nodes, step)
        replies = self.grid.send_and_receive(messages, timeout=TIMEOUT) if messages else []
        for site, reply in self.roster.by_site(replies, self.record.strays):
            node = reply.metadata.src_node_id
            if reply.has_error():
                self.record.lose(self.federation.site_specs[site].label, reply.error.reason or "no reason given")
                continue
            try:
                said, answer = numbers_of(reply, "seconds", "loss"), arrays_of(reply)
                self._check(what, answer)
            except ValueError as error:
                self._reject(node, str(error))
                continue
            answers[node] = answer
            self.record.reply(site, said["seconds"], size_of(answer))
            if what == "loss":
                self.losses.append(said["loss"])
        return answers

    def _check(self, what: str, answer: Arrays) -> None:
        """Refuse values that would spoil the batch that all devices share."""
        wanted = {"forward": "x", "loss": "gradient"}.get(what)
        if wanted is None:
            return
        if wanted not in answer or not np.isfinite(answer[wanted]).all():
            raise ValueError(f"its {wanted} is missing or not finite")
        if answer[wanted].ndim != 3 or answer[wanted].shape[-1] != self.backbone.width:
            raise ValueError(f"its {wanted} has shape {answer[wanted].shape}")

    def _reject(self, node: int, why: str) -> None:
        self.record.reject(self.federation.site_specs[self.roster.sites[node]].label, why)


def largest(values: dict[int, np.ndarray]) -> tuple[float, int, float]:
    """Of arrays by node: the largest value over the median of all nodes' largest, its node, and its size."""
    sizes = {node: float(np.abs(value).max()) for node, value in values.items()}
    worst = max(sizes, key=sizes.__getitem__)
    return sizes[worst] / max(float(np.median(list(sizes.values()))), 1e-30), worst, sizes[worst]
