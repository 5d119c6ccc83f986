"""Flower's strategies, and two of our own: averaging products of adapters, and a supervisor around any of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    FedAdam,
    FedAvg,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    Krum,
    MultiKrum,
    Strategy,
)

from airlam.edge.federated.adapters import Arrays, average, combine, fitted, fresh_a, norm_of_change, product_error
from airlam.edge.federated.federation import EXACT, Federation, needed_by_krum, trimmed_of
from airlam.edge.federated.grids import NodeSubset
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
from airlam.edge.federated.rounds import Roster, RoundRecord
from airlam.interfaces import AirlamError

KINDS = {
    "fedavg": FedAvg, "fedprox": FedProx, "fedadam": FedAdam, "fedtrimmedavg": FedTrimmedAvg, "fedmedian": FedMedian,
    "krum": Krum, "multikrum": MultiKrum,
}  # fmt: skip
EVERYONE = {"fraction_train": 1.0, "fraction_evaluate": 1.0, "min_train_nodes": 1, "min_evaluate_nodes": 1,
            "min_available_nodes": 1}  # fmt: skip
ABSURD = 10.0  # times the median norm of a round's updates


class ProductAveraging:
    """Mixed into FedAvg or FedProx: the products of adapters are averaged, not the adapters.

    ``before`` (what the round started from) is set by :class:`Supervisor`.
    """

    aggregation: str
    rank: int
    before: Arrays

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """See :class:`flwr.serverapp.strategy.Strategy`."""
        good, _ = self._check_and_log_replies(replies, is_train=True)  # type: ignore[attr-defined]
        if not good:
            return None, None
        updates = [from_record(reply.content["arrays"]) for reply in good]
        weights = [float(reply.content["metrics"]["num-examples"]) for reply in good]
        combined = combine(self.aggregation, updates, weights, self.before, self.rank)
        metrics = self.train_metrics_aggr_fn([reply.content for reply in good], "num-examples")  # type: ignore[attr-defined]
        return to_record(combined), metrics


class ProductFedAvg(ProductAveraging, FedAvg):
    """FedAvg of products."""


class ProductFedProx(ProductAveraging, FedProx):
    """FedProx with an average of products."""


def make_strategy(federation: Federation) -> Strategy:
    """The strategy that a run names, for all the nodes it is shown."""
    f = federation
    exact = f.lora_rank is not None and f.aggregation in EXACT
    kind = {"fedavg": ProductFedAvg, "fedprox": ProductFedProx}[f.strategy] if exact else KINDS[f.strategy]
    strategy = kind(**{**EVERYONE, **f.strategy_args})
    if exact:
        strategy.aggregation, strategy.rank = f.aggregation, f.largest_rank
    return strategy


def problem_of(update: Arrays, expected: Arrays) -> str | None:
    """Why an update cannot be used: names, shapes or values; None if it can."""
    if update.keys() != expected.keys():
        return f"arrays {sorted(update.keys() ^ expected.keys())[:2]} are missing or unknown"
    for name, value in update.items():
        if value.shape != expected[name].shape:
            return f"{name} has shape {value.shape}, not {expected[name].shape}"
        if not np.isfinite(value).all():
            return f"{name} has {int((~np.isfinite(value)).sum())} values that are not finite"
    return None


def weaknesses(federation: Federation, count: int) -> list[str]:
    """What a round of ``count`` usable updates cannot promise any more."""
    f = federation
    if not count:
        return ["nobody's update could be used: the model stays as it was"]
    if f.strategy in ("krum", "multikrum") and count < needed_by_krum(f):
        return [f"{f.strategy} had {count} updates and needs {needed_by_krum(f)}: no guarantee against attackers"]
    if f.strategy == "fedtrimmedavg" and not trimmed_of(f, count):
        return [f"of {count} updates the trimmed mean trims none: a plain mean"]
    return []


class Supervisor(Strategy):
    """Around a strategy of Flower's: chooses who takes part, sends each device what it can use, rejects what nobody
    should average, and writes down what it cost.

    Args:
        inner: the strategy.
        roster: which node is which site, and the radio of each round.
        first_round: rounds done before (after a restart).
    """

    def __init__(self, federation: Federation, inner: Strategy, roster: Roster, first_round: int = 0):
        self.federation, self.inner, self.roster, self.done = federation, inner, roster, first_round
        self.record = RoundRecord(first_round)
        self.sent: dict[int, Arrays] = {}
        self.started: Arrays = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Messages to the devices of the round, each with adapters of its own rank."""
        f, number = self.federation, self.done + server_round
        config["learning-rate"] = learning_rate(f, number)
        everything = from_record(arrays)
        self.record = self.roster.plan(grid, number, everything)
        self.record.used = 0
        nodes = [node for node, site in self.roster.sites.items() if site in self.record.chosen]
        self.sent, messages = {}, []
        self.started = everything
        if isinstance(self.inner, ProductAveraging):
            self.inner.before = everything
        if not nodes:
            return []
        for message in self.inner.configure_train(number, arrays, config, NodeSubset(grid, nodes)):
            site = self.roster.sites[message.metadata.dst_node_id]
            self.sent[site] = self.roster.view(site, everything)
            own = RecordDict({"arrays": to_record(self.sent[site]), "config": message.content["config"]})
            messages.append(Message(own, message.metadata.dst_node_id, message.metadata.message_type))
            if f.sites[site].mode == "local":  # of split devices the steps are counted
                self.record.down_bytes[site] = size_of(self.sent[site])
        return messages

    def complete(self, site: int, update: Arrays) -> Arrays:
        """An update with what a device does not hold itself: nothing here, see :class:`SplitSupervisor`."""
        return update

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The inner strategy's average of the updates that can be used."""
        f, number, record = self.federation, self.done + server_round, self.record
        usable: dict[int, tuple[Message, Arrays]] = {}
        gone: list[str] = []
        silent = set(self.sent)
        # a private device says nothing of its loss, which knows its data and has no noise
        wanted = ("num-examples",) if f.privacy else ("num-examples", "loss")
        for site, reply in self.roster.by_site(replies, gone):
            silent.discard(site)
            if reply.has_error():
                record.lose(f.sites[site].label, reply.error.reason or "no reason given")
                continue
            try:
                metrics, update = numbers_of(reply, *wanted, "seconds"), arrays_of(reply)
                check_examples(metrics["num-examples"], f.users_of(site))
            except ValueError as error:
                record.reject(f.sites[site].label, error)
                continue
            record.reply(site, metrics["seconds"], size_of(update))
            update = self.complete(site, update)
            why = problem_of(update, self.roster.expected(site, self.sent[site]))
            if why:
                record.reject(f.sites[site].label, why)
            else:
                usable[site] = reply, update
        for site in silent:
            if f.sites[site].label not in record.rejected:  # a split device may be out since an earlier step
                record.lost.setdefault(f.sites[site].label, gone.pop() if gone else "no reply in time")
        starts = {site: self.roster.start_of(site, self.sent[site], number) for site in usable}
        norms = {site: norm_of_change(update, starts[site]) for site, (_, update) in usable.items()}
        ordered = sorted(norms.values()) or [0.0]
        limit = f.max_update_norm or ABSURD * ordered[(len(ordered) - 1) // 2]  # of two the smaller
        for site, norm in norms.items():
            if norm > limit > 0:
                record.reject(f.sites[site].label, f"norm {norm:.3g} is above {limit:.3g}")
                del usable[site]
        record.used = len(usable)
        record.notes += weaknesses(f, len(usable))
        if not usable:
            return None, None
        pad = f.lora_rank is not None and f.aggregation not in EXACT
        good = []
        for reply, update in usable.values():
            reply.content["arrays"] = to_record(fitted(update, f.largest_rank) if pad else update)
            # strategies want the same metrics from everyone; what else a device said is in the record
            reply.content["metrics"] = MetricRecord({name: reply.content["metrics"][name] for name in wanted})
            good.append(reply)
        try:
            arrays, metrics = self.inner.aggregate_train(number, good)
        except ValueError as error:
            raise AirlamError(f"round {number}: {shown(error)}; the state of the round before stands") from None
        result = {} if arrays is None else from_record(arrays)
        if not all(np.isfinite(value).all() for value in result.values()):
            raise AirlamError(
                f"round {number}: strategy {f.strategy} with {f.strategy_args or 'no arguments'} made weights that are "
                "not finite; the state of the round before stands"
            )
        self._measure_aggregation([u for _, u in usable.values()], [r for r, _ in usable.values()], result)
        record.train_loss = float(metrics["loss"]) if metrics and "loss" in metrics else None  # type: ignore[arg-type]
        return arrays, metrics

    def _measure_aggregation(self, updates: list[Arrays], replies: list[Message], result: Arrays) -> None:
        """How far the new adapters are from the average of the products, and what naive averaging would have missed."""
        f, rank = self.federation, self.federation.largest_rank
        if f.lora_rank is None or not result or f.strategy not in ("fedavg", "fedprox"):
            return
        before = self.started
        if f.aggregation == "ffa":
            shared = fresh_a(self.roster.shapes, rank, f.seed, 0)
            before = {**shared, **before}
            updates = [fitted({**shared, **update}, rank) for update in updates]
            result = {**shared, **result}
        weights = [float(reply.content["metrics"]["num-examples"]) for reply in replies]
        self.record.aggregation_error = product_error(updates, weights, result, before)
        if f.aggregation != "ffa":
            naive = average([fitted(update, rank) for update in updates], weights)
            start = {name: value for name, value in before.items() if not name.startswith("W/")}
            self.record.naive_error = product_error(updates, weights, naive, start)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """All devices that are there look at their validation users, in the rounds that the run says."""
        f, number = self.federation, self.done + server_round
        if number % f.evaluate_every and number != f.rounds:
            return []
        self.roster.meet(grid)
        everything, messages = from_record(arrays), []
        config["server-round"] = number
        for node, site in self.roster.sites.items():
            rank = f.rank_of(f.sites[site])
            seen = everything if rank is None else fitted(everything, rank)
            content = RecordDict({"arrays": to_record(seen), "config": config})
            self.record.look_bytes += size_of(seen)
            messages.append(Message(content, node, "evaluate"))
        return messages

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Each site's figure goes into the record; their mean is the round's."""
        for site, reply in self.roster.by_site(replies, self.record.strays):
            label = self.federation.sites[site].label
            if reply.has_error():
                self.record.strays.append(shown(f"evaluation of {label}: {reply.error.reason}"))
                continue
            try:
                self.record.figures[label] = numbers_of(reply, "figure")["figure"]
            except ValueError as error:
                self.record.strays.append(shown(f"evaluation of {label}: {error}"))
        if not self.record.figures:
            return None
        return MetricRecord({"figure": float(np.mean(list(self.record.figures.values())))})

    def finish(self, server_round: int) -> RoundRecord:
        """The round's record, privacy included."""
        if self.federation.privacy is not None:
            p = self.federation.privacy
            # another device's data in its place moves a clipped update by up to twice the clip
            spent = epsilon(p["noise_multiplier"] / 2, self.done + server_round, p["delta"])
            self.record.epsilon = spent if math.isfinite(spent) else None
        return self.record

    def memory(self) -> Arrays:
        """What has to survive a restart besides the weights: the moments of FedAdam."""
        found: dict[str, Any] = {"m": getattr(self.inner, "m_t", None), "v": getattr(self.inner, "v_t", None)}
        return {f"{kind}:{name}": value for kind, arrays in found.items() for name, value in (arrays or {}).items()}

    def recall(self, memory: Arrays) -> None:
        """Inverse of :meth:`memory`."""
        for kind in ("m", "v"):
            mine = {name[2:]: value for name, value in memory.items() if name.startswith(f"{kind}:")}
            if mine:
                setattr(self.inner, f"{kind}_t", mine)

    def summary(self) -> None:
        """What Flower prints about a strategy."""
        self.inner.summary()


def learning_rate(federation: Federation, number: int) -> float:
    """The rate of a round: a cosine from the run's rate down to a tenth of it."""
    done = (number - 1) / max(1, federation.rounds - 1)
    return federation.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))
