"""The server's part of split rounds: the backbone with its adapters, and the supervisor that leads the steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.federation import Federation
from airlam.edge.federated.learner import Learner
from airlam.edge.federated.messages import arrays_of, from_record, numbers_of, size_of, to_record
from airlam.edge.federated.rounds import Roster
from airlam.edge.federated.split import SplitLearner, gradients, step_adamw, write
from airlam.edge.federated.strategies import Supervisor, learning_rate

Nodes = dict[int, Arrays]  # node id -> what it is sent, or has sent


class SplitSupervisor(Supervisor):
    """Leads the steps of a round's split devices, together, before it hands Flower the messages that end the round.

    A split device's update is its own adapters and, of the layers that it does not hold, the server's: so devices that
    are split at different layers, and devices that are not split, are averaged alike by the run's strategy.
    """

    def __init__(self, federation: Federation, inner: Strategy, roster: Roster, learner: Learner, first_round: int = 0):
        super().__init__(federation, inner, roster, first_round)
        self.learner = learner
        depths = {site.split_layers for site in federation.sites if site.mode == "split"}
        self.splits = {layers: SplitLearner(federation, learner, layers) for layers in depths}
        self.server = {name: p for split in self.splits.values() for name, p in split.server.items()}
        self.weights: Arrays = {}
        self.moments: Arrays = {}
        self.losses: list[float] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """All steps of the split devices but their last one, which the returned messages ask for; and the messages to
        the others."""
        f, number = self.federation, self.done + server_round
        everything = from_record(arrays)
        messages = list(super().configure_train(server_round, arrays, config, grid))
        split = {m.metadata.dst_node_id for m in messages if self._depth(m.metadata.dst_node_id) is not None}
        others = [message for message in messages if message.metadata.dst_node_id not in split]
        self.learner.load(everything, number)
        self.weights = {name: everything[name] for name in self.server}
        # adapters may come back re-factorised, in which case old moments would belong to other directions
        rate, self.losses, self.moments = learning_rate(f, number), [], {}
        sites = {node: self.roster.sites[node] for node in split}
        mine = {node: self.roster.on_device(site, self.sent[site]) for node, site in sites.items()}
        pending: Nodes = {node: {} for node in self._ask(grid, "begin", mine, number, 0, rate)}
        for step in range(f.local_steps):
            pending = self._step(grid, pending, number, step, rate)
        return others + self._messages("finish", pending, number, f.local_steps - 1, rate)

    def _depth(self, node: int) -> int | None:
        spec = self.federation.sites[self.roster.sites[node]]
        return spec.split_layers if spec.mode == "split" else None

    def _step(self, grid: Grid, pending: Nodes, number: int, step: int, rate: float) -> Nodes:
        """One step of every device that is left; what each gets with the next message."""
        x = {node: answer["x"] for node, answer in self._ask(grid, "forward", pending, number, step, rate).items()}
        if not x:
            return {}
        write(self.server, self.weights)
        inputs = {node: torch.from_numpy(value).requires_grad_() for node, value in x.items()}
        hidden = self._backbone(inputs)
        wild = [node for node, value in hidden.items() if not value.isfinite().all()]
        for node in wild:
            self._reject(node, f"its x, of up to {np.abs(x[node]).max():.3g}, leaves the range of single precision")
            del inputs[node]
        if wild:  # they shared a batch with the others, whose gradients they would spoil
            hidden = self._backbone(inputs)
        sent = {node: {"hidden": value.detach().numpy()} for node, value in hidden.items()}
        answers = self._ask(grid, "loss", sent, number, step, rate)
        for node in [n for n, answer in answers.items() if answer["gradient"].shape != hidden[n].shape]:
            self._reject(node, f"its gradient has shape {answers.pop(node)['gradient'].shape}")
        if not answers:  # lost in between, all of them
            return {}
        torch.autograd.backward(
            [hidden[node] for node in answers],
            [torch.from_numpy(answer["gradient"]) for answer in answers.values()],
        )
        # the mean over the devices whose layer is here: a device that is split later has it for itself
        held = Counter(name for node in answers for name in self.splits[self._depth(node)].server)
        grads = {name: grad / max(1, held[name]) for name, grad in gradients(self.server).items()}
        if all(np.isfinite(grad).all() for grad in grads.values()):
            step_adamw(self.weights, grads, self.moments, rate, self.federation.optimizer)
        else:  # this step of the server is lost, and whoever sent the largest values, beside the others', is out
            gradients_seen = {node: answer["gradient"] for node, answer in answers.items()}
            _, worst, size = max(largest({node: x[node] for node in answers}), largest(gradients_seen))
            self._reject(worst, f"its values of up to {size:.3g} leave the range of single precision")
            del answers[worst]
        return {node: {"gradient": inputs[node].grad.numpy()} for node in answers}  # type: ignore[union-attr]

    def _backbone(self, inputs: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
        """The server's part for every node; devices of one depth and array in one batch."""
        groups: dict[tuple, list[int]] = {}
        for node, x in inputs.items():
            groups.setdefault((self._depth(node), *x.shape[1:]), []).append(node)
        hidden: dict[int, torch.Tensor] = {}
        for (layers, *_), group in groups.items():
            sizes = [len(inputs[node]) for node in group]
            out = self.splits[layers].back(torch.cat([inputs[node] for node in group])).split(sizes)
            hidden |= dict(zip(group, out, strict=True))
        return hidden

    def _messages(self, what: str, nodes: Nodes, number: int, step: int, rate: float) -> list[Message]:
        config = {"what": what, "server-round": number, "step": step, "learning-rate": rate}
        messages = []
        for node, arrays in nodes.items():
            site = self.roster.sites[node]
            self.record.down_bytes[site] = self.record.down_bytes.get(site, 0) + size_of(arrays)
            content = RecordDict({"arrays": to_record(arrays), "config": ConfigRecord(dict(config))})
            messages.append(Message(content, node, "train.split"))
        return messages

    def _ask(self, grid: Grid, what: str, nodes: Nodes, number: int, step: int, rate: float) -> Nodes:
        """Send each node its arrays and wait; a node that fails is out for the round."""
        answers = {}
        replies = grid.send_and_receive(self._messages(what, nodes, number, step, rate), timeout=600)
        for site, reply in self.roster.by_site(replies, self.record.strays):
            node = reply.metadata.src_node_id
            if reply.has_error():
                self.record.lose(self.federation.sites[site].label, reply.error.reason or "no reason given")
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
        """What a device sends meets everybody's in one batch: no value of it may spoil that."""
        wanted = {"forward": "x", "loss": "gradient"}.get(what)
        if wanted is None:
            return
        if wanted not in answer or not np.isfinite(answer[wanted]).all():
            raise ValueError(f"its {wanted} is missing or not finite")
        width = self.learner.model.get_base_model().backbone.config.hidden_size
        if answer[wanted].ndim != 3 or answer[wanted].shape[-1] != width:
            raise ValueError(f"its {wanted} has shape {answer[wanted].shape}")

    def _reject(self, node: int, why: str) -> None:
        self.record.reject(self.federation.sites[self.roster.sites[node]].label, why)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """See :class:`Supervisor`; the loss of split devices came step by step."""
        found = super().aggregate_train(server_round, replies)
        if self.losses:
            self.record.train_loss = float(np.mean(self.losses))
        return found

    def complete(self, site: int, update: Arrays) -> Arrays:
        """A split device's adapters with the server's for the layers that it does not hold."""
        if self.federation.sites[site].mode == "local":
            return update
        return {**self.sent[site], **self.weights, **update}


def largest(values: dict[int, np.ndarray]) -> tuple[float, int, float]:
    """Of arrays by node: how far the largest value is beyond the median of all nodes', whose it is, and its size."""
    sizes = {node: float(np.abs(value).max()) for node, value in values.items()}
    worst = max(sizes, key=sizes.__getitem__)
    return sizes[worst] / max(float(np.median(list(sizes.values()))), 1e-30), worst, sizes[worst]
