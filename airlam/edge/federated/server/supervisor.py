"""One round after the other on the server: plan, send, check, aggregate, validate."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from airlam.edge.federated.adapters import Arrays, fitted, norm_of_change
from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.learning.optimisers import learning_rate
from airlam.edge.federated.messages import (
    arrays_of,
    check_examples,
    from_record,
    numbers_of,
    shown,
    size_of,
    to_record,
)
from airlam.edge.federated.privacy import epsilon
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.backbone import Backbone
from airlam.edge.federated.server.exchange import Exchange
from airlam.edge.federated.server.record import RoundRecord
from airlam.edge.federated.server.roster import Roster
from airlam.edge.federated.server.round_plan import RoundPlanner
from airlam.edge.federated.server.split_round import SplitRound
from airlam.edge.federated.server.subset import NodeSubset
from airlam.edge.federated.server.updates import aggregation_errors, norm_problems, problem_of, weaknesses
from airlam.errors import AirlamError

TIMEOUT = 3600.0  # seconds that the server waits for replies


class Supervisor:
    """Leads the rounds of a run.

    It chooses who takes part, sends each device what it can use, rejects updates that must not be averaged, and records
    what the round cost. Messages and averages are those of a strategy of Flower's.

    Args:
        grid: Flower's connection to the nodes. roster: which node is which site.
        learner: the server's model.

    Attributes:
        record: of the round that is running, or was the last.
    """

    def __init__(self, federation: Federation, grid: Grid, roster: Roster, learner: Learner):
        self.federation, self.grid, self.roster = federation, grid, roster
        self.strategy = federation.server_strategy.make()
        self.exchange = Exchange(federation, learner.shapes)
        self.planner = RoundPlanner(federation, roster, self.exchange)
        self.backbone = Backbone(federation, learner) if federation.split else None
        self.record = RoundRecord(0)

    def train(self, number: int, arrays: Arrays) -> Arrays:
        """Round ``number`` (from 1) of training from ``arrays``; the new arrays, or the same if no update can be used.

        Raises:
            AirlamError: the aggregate is not finite.
        """
        self.record = self.planner.plan(self.grid, number, arrays)
        self.record.used = 0
        sent, messages = self._messages(number, arrays)
        split = None
        if self.backbone is not None and messages:
            split = SplitRound(self.federation, self.grid, self.roster, self.backbone, self.record)
            messages = split.run(arrays, messages, sent, self.exchange)
        replies = list(self.grid.send_and_receive(messages, timeout=TIMEOUT)) if messages else []
        usable = self._usable(number, replies, sent, split)
        self.record.used = len(usable)
        self.record.notes += weaknesses(self.federation, len(usable))
        result = self._aggregate(number, arrays, usable) if usable else None
        if split is not None and split.losses:
            self.record.train_loss = float(np.mean(split.losses))
        return arrays if result is None else result

    def validate(self, number: int, arrays: Arrays) -> None:
        """All connected devices validate the arrays, in the rounds that the run says; figures go into the record."""
        f = self.federation
        if number % f.evaluate_every and number != f.rounds:
            return
        self.roster.meet(self.grid)
        messages = []
        for node, site in self.roster.sites.items():
            rank = f.rank_of(f.site_specs[site])
            seen = self.exchange.coded(site, arrays if rank is None else fitted(arrays, rank), number + 1)
            content = RecordDict({"arrays": to_record(seen), "config": ConfigRecord({"server-round": number})})
            self.record.validation_bytes += size_of(seen)
            messages.append(Message(content, node, "evaluate"))
        replies = self.grid.send_and_receive(messages, timeout=TIMEOUT) if messages else []
        for site, reply in self.roster.by_site(replies, self.record.strays):
            label = f.site_specs[site].label
            try:
                if reply.has_error():
                    raise ValueError(reply.error.reason)
                self.record.figures[label] = numbers_of(reply, "figure")["figure"]
            except ValueError as error:
                self.record.strays.append(shown(f"evaluation of {label}: {error}"))

    def finish(self, number: int) -> RoundRecord:
        """The round's record, with the epsilon spent so far."""
        if (privacy := self.federation.protection) is not None:
            # another device's data in its place moves a clipped update by up to twice the clip
            spent = epsilon(privacy.noise_multiplier / 2, number, privacy.delta)
            self.record.epsilon = spent if math.isfinite(spent) else None
        return self.record

    def _messages(self, number: int, arrays: Arrays) -> tuple[dict[int, Arrays], list[Message]]:
        """What each chosen site is sent, and the messages to local and split sites alike."""
        f, sent, messages = self.federation, {}, []
        nodes = [node for node, site in self.roster.sites.items() if site in self.record.chosen]
        if not nodes:
            return {}, []
        config = ConfigRecord({"learning-rate": learning_rate(f, number)})
        everything = to_record(arrays)
        for message in self.strategy.configure_train(number, everything, config, NodeSubset(self.grid, nodes)):
            site = self.roster.sites[message.metadata.dst_node_id]
            sent[site] = self.exchange.view(site, arrays)
            coded = self.exchange.coded(site, sent[site], number)
            own = RecordDict({"arrays": to_record(coded), "config": message.content["config"]})
            messages.append(Message(own, message.metadata.dst_node_id, message.metadata.message_type))
            if f.site_specs[site].mode == "local":  # the bytes of split sites are counted step by step
                self.record.down_bytes[site] = size_of(coded)
        return sent, messages

    def _usable(
        self, number: int, replies: Iterable[Message], sent: dict[int, Arrays], split: SplitRound | None
    ) -> dict[int, tuple[Message, Arrays]]:
        """Number of a site -> its reply and arrays, where they can be averaged. All others go into the record with the
        reason."""
        f, record = self.federation, self.record
        usable: dict[int, tuple[Message, Arrays]] = {}
        gone: list[str] = []
        silent = set(sent)
        for site, reply in self.roster.by_site(replies, gone):
            silent.discard(site)
            label = f.site_specs[site].label
            if reply.has_error():
                record.lose(label, reply.error.reason or "no reason given")
                continue
            try:
                metrics, coded = numbers_of(reply, *self._metrics, "seconds"), arrays_of(reply, f.wire)
                check_examples(metrics["num-examples"], f.users_of(site))
                update = self.exchange.received(site, coded, sent[site], number)
            except ValueError as error:
                record.reject(label, error)
                continue
            record.reply(site, metrics["seconds"], size_of(coded))
            if split is not None and f.site_specs[site].mode == "split":
                update = split.complete(sent[site], update)
            if why := problem_of(update, self.exchange.expected(site, sent[site])):
                record.reject(label, why)
            else:
                usable[site] = reply, update
        for site in silent:
            if f.site_specs[site].label not in record.rejected:  # a split device may be out since an earlier step
                record.lost.setdefault(f.site_specs[site].label, gone.pop() if gone else "no reply in time")
        starts = {site: self.exchange.start_of(site, sent[site], number) for site in usable}
        norms = {site: norm_of_change(update, starts[site]) for site, (_, update) in usable.items()}
        for site, why in norm_problems(f, norms).items():
            record.reject(f.site_specs[site].label, why)
            del usable[site]
        return usable

    @property
    def _metrics(self) -> tuple[str, ...]:
        """What every device says of its training; a private one does not send its loss, which carries no noise."""
        return ("num-examples",) if self.federation.protection else ("num-examples", "loss")

    def _aggregate(self, number: int, before: Arrays, usable: dict[int, tuple[Message, Arrays]]) -> Arrays | None:
        f, rank = self.federation, self.federation.largest_rank
        products = f.lora_rank is not None and f.scheme.averages_products
        updates, replies = [update for _, update in usable.values()], []
        for reply, update in usable.values():
            alike = update if products or f.lora_rank is None else fitted(update, rank)
            # strategies want the same metrics from everyone; what else a device said is in the record
            metrics = MetricRecord({name: reply.content["metrics"][name] for name in self._metrics})
            reply.content["arrays"], reply.content["metrics"] = to_record(alike), metrics
            replies.append(reply)
        weights = [float(reply.content["metrics"]["num-examples"]) for reply in replies]
        try:
            if products:
                result = f.scheme.combine(updates, weights, before, rank)
                said = self.strategy.train_metrics_aggr_fn([reply.content for reply in replies], "num-examples")
            else:
                made, said = self.strategy.aggregate_train(number, replies)
                result = {} if made is None else from_record(made)
        except ValueError as error:
            raise AirlamError(f"round {number}: {shown(error)}; the state of the round before stands") from None
        if not all(np.isfinite(value).all() for value in result.values()):
            arguments = f.server_strategy.arguments or "no arguments"
            raise AirlamError(
                f"round {number}: strategy {f.strategy} with {arguments} made weights that are not finite; the state "
                "of the round before stands"
            )
        errors = aggregation_errors(f, self.exchange.shapes, number, before, updates, weights, result)
        self.record.aggregation_error, self.record.naive_error = errors
        self.record.train_loss = float(said["loss"]) if said and "loss" in said else None  # type: ignore[arg-type]
        return result or None
