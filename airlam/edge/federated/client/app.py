"""The client's side, the same code in every engine: what a device does when a message comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.client.attacks import poisoned
from airlam.edge.federated.client.split_device import DeviceSide
from airlam.edge.federated.client.workshop import Workshop
from airlam.edge.federated.learning.sites import Site
from airlam.edge.federated.learning.split import device_costs
from airlam.edge.federated.messages import from_record, to_record
from airlam.edge.federated.privacy import privatise
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.wire import decode, encode_change
from airlam.seeds import noise_seed

DROPOUT, NOISE, ATTACK, ROUNDING = 101, 102, 103, 105  # keys of seeds
REST = "rest-of-rounding"  # in a node's state


class DeviceLost(Exception):
    """The reply of a device does not arrive."""


def from_run_config(context: Context) -> Workshop:
    """The workshop of the run that came with the run's configuration (deployment: a process for each message)."""
    return Workshop(Federation.from_json(str(context.run_config["federation"])))


def build_client_app(workshop_of: Callable[[Context], Workshop] = from_run_config) -> ClientApp:
    """The client app of a run.

    Args:
        workshop_of: from a message's context to the models and users of this process.
    """
    app = ClientApp()

    def here(context: Context) -> tuple[Workshop, Site, int]:
        workshop, number = workshop_of(context), int(context.node_config["partition-id"])
        torch.set_num_threads(workshop.federation.threads)
        return workshop, workshop.site(number), number

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        workshop, site, number = here(context)
        return _answer(message, {"site": number, "num-examples": len(site.train), **costs_of(workshop, site)})

    @app.train("split")
    def split(message: Message, context: Context) -> Message:
        workshop, site, number = here(context)
        f, config = workshop.federation, _config(message)
        _maybe_lost(f, site, number, int(config["server-round"]))
        device = DeviceSide(workshop.split(f.rank_of(site.spec), site.spec.split_layers), site, context)
        metrics, arrays = device.answer(message.content)
        return _answer(message, {"site": number, **metrics}, arrays)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        workshop, site, number = here(context)
        f, config = workshop.federation, _config(message)
        server_round = int(config["server-round"])
        _maybe_lost(f, site, number, server_round)
        learner = workshop.learner(f.rank_of(site.spec), _sent(f, message), server_round)
        before = learner.arrays()
        rate, mu = float(config["learning-rate"]), float(config.get("proximal-mu", 0.0))
        metrics = learner.train(site, server_round, learning_rate=rate, proximal_mu=mu)
        if f.protection is not None:
            del metrics["loss"]  # it depends on the device's data and carries no noise
        after = _disguised(f, site, server_round, learner.arrays(), before)
        if f.wire != "float32":
            after = _rounded(f, site, server_round, context, after, before)
        return _answer(message, {"site": number, "num-examples": len(site.train), **metrics}, after)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        workshop, site, number = here(context)
        # what is validated is what the next round would start from
        server_round = int(_config(message)["server-round"]) + 1
        rank = workshop.federation.rank_of(site.spec)
        learner = workshop.learner(rank, _sent(workshop.federation, message), server_round)
        return _answer(message, {"site": number, "num-examples": len(site.val), "figure": learner.validate(site)})

    return app


def costs_of(workshop: Workshop, site: Site) -> dict[str, float]:
    """What a round costs a site: its operations, the bytes of activations each way, and the server's operations."""
    f, rank = workshop.federation, workshop.federation.rank_of(site.spec)
    if site.spec.mode == "split":
        costs = device_costs(workshop.split(rank, site.spec.split_layers), site)
    else:
        flops = workshop.learner(rank).step_flops(site, min(f.batch_size, len(site.train)))
        costs = {"flops": float(flops), "activations": 0.0, "server-flops": 0.0}
    return {name: f.local_steps * value for name, value in costs.items()}


def _disguised(f: Federation, site: Site, server_round: int, after: Arrays, before: Arrays) -> Arrays:
    """The update as it is sent: clipped and with noise if the run is private, poisoned if the site is an attacker."""
    if f.protection is not None:
        known = f.protection.noise_seed
        secret = None if known is None else noise_seed(int(known), NOISE, site.spec.seed, server_round)
        clip, noise = f.protection.clip, f.protection.noise_multiplier
        after = privatise(after, before, clip=clip, noise_multiplier=noise, seed=secret)
    if f.attacker is not None and site.spec.label in f.attacker.sites:
        seed = noise_seed(f.seed, ATTACK, site.spec.seed, server_round)
        after = poisoned(after, before, f.attacker.kind, f.attacker.scale, seed)
    return after


def _sent(f: Federation, message: Message) -> Arrays:
    """What the server sent."""
    arrays = from_record(message.content["arrays"])
    return arrays if f.wire == "float32" else decode(arrays)


def _rounded(f: Federation, site: Site, server_round: int, context: Context, after: Arrays, before: Arrays) -> Arrays:
    """The change in eight bits. What rounding leaves out stays in the node's state until the next round, where the
    scheme keeps its factors. Noise of privacy is in ``after``: rounding it takes nothing from its guarantee."""
    kept = context.state[REST] if f.scheme.keeps_factors and REST in context.state else None
    seed = noise_seed(f.seed, ROUNDING, site.spec.seed, server_round)
    coded, rest = encode_change(after, before, from_record(kept) if isinstance(kept, ArrayRecord) else {}, seed)
    if f.scheme.keeps_factors:
        context.state[REST] = to_record(rest)
    return coded


def _maybe_lost(federation: Federation, site: Site, number: int, server_round: int) -> None:
    if np.random.default_rng([federation.seed, DROPOUT, server_round, number]).random() < federation.dropout:
        raise DeviceLost(f"the reply of {site.spec.label} was lost")


def _config(message: Message) -> Any:
    return message.content["config"]


def _answer(message: Message, metrics: dict[str, float], arrays: Arrays | None = None) -> Message:
    content = RecordDict({"metrics": MetricRecord(dict(metrics))})
    if arrays is not None:
        content["arrays"] = to_record(arrays)
    return Message(content, reply_to=message)
