"""The client's side, the same code in every engine: what a device does when a message comes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.attacks import poisoned
from airlam.edge.federated.federation import Federation
from airlam.edge.federated.learner import learner_for
from airlam.edge.federated.messages import from_record, to_record
from airlam.edge.federated.privacy import privatise
from airlam.edge.federated.sites import Site, make_site
from airlam.edge.federated.split import DeviceSide, SplitLearner, device_costs
from airlam.seeds import noise_seed

DROPOUT, NOISE, ATTACK = 101, 102, 103  # keys of seeds


class DeviceLost(Exception):
    """The reply of a device does not arrive."""


def build_client_app(federation: str | None = None) -> ClientApp:
    """The client app of a run.

    Args:
        federation: :meth:`Federation.to_json`; None: it comes with the run's configuration (deployment).
    """
    app = ClientApp()

    def here(context: Context) -> tuple[Federation, Site, int]:
        f = Federation.from_json(federation or str(context.run_config["federation"]))
        torch.set_num_threads(f.threads)
        number = int(context.node_config["partition-id"])
        return f, make_site(f, number), number

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        f, site, number = here(context)
        learner = learner_for(f, f.rank_of(site.spec))
        if site.spec.mode == "split":
            costs = device_costs(SplitLearner(f, learner, site.spec.split_layers), site)
        else:
            size = min(f.batch_size, len(site.train))
            costs = {"flops": float(learner.step_flops(site, size)), "activations": 0.0, "server-flops": 0.0}
        costs = {name: f.local_steps * value for name, value in costs.items()}
        return _answer(message, {"site": number, "num-examples": len(site.train), **costs})

    @app.train("split")
    def split(message: Message, context: Context) -> Message:
        f, site, number = here(context)
        config: Any = message.content["config"]
        _maybe_lost(f, site, number, int(config["server-round"]))
        learner = learner_for(f, f.rank_of(site.spec))
        if str(config["what"]) == "begin":  # frozen factors, which do not travel
            learner.load(learner.start(), 1)
        metrics, arrays = DeviceSide(SplitLearner(f, learner, site.spec.split_layers), site, context).answer(
            message.content
        )
        return _answer(message, {"site": number, **metrics}, arrays)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        f, site, number = here(context)
        config: Any = message.content["config"]
        server_round = int(config["server-round"])
        _maybe_lost(f, site, number, server_round)
        learner = learner_for(f, f.rank_of(site.spec))
        learner.load(from_record(message.content["arrays"]), server_round)
        before = learner.arrays()
        metrics = learner.train(
            site,
            server_round,
            learning_rate=float(config["learning-rate"]),
            proximal_mu=float(config.get("proximal-mu", 0.0)),
        )
        after = learner.arrays()
        if f.privacy is not None:
            known = f.privacy["noise_seed"]
            secret = None if known is None else noise_seed(int(known), NOISE, site.spec.seed, server_round)
            del metrics["loss"]  # it says something about the device's data, and has no noise
            after = privatise(
                after, before, clip=f.privacy["clip"], noise_multiplier=f.privacy["noise_multiplier"], seed=secret
            )
        if f.attack is not None and site.spec.label in f.attack["sites"]:
            seed = noise_seed(f.seed, ATTACK, site.spec.seed, server_round)
            after = poisoned(after, before, f.attack["kind"], f.attack["scale"], seed)
        return _answer(message, {"site": number, "num-examples": len(site.train), **metrics}, after)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        f, site, number = here(context)
        learner = learner_for(f, f.rank_of(site.spec))
        config: Any = message.content["config"]
        # what is judged is what the next round would start from
        learner.load(from_record(message.content["arrays"]), int(config["server-round"]) + 1)
        return _answer(message, {"site": number, "num-examples": len(site.val), "figure": learner.validate(site)})

    return app


def _maybe_lost(federation: Federation, site: Site, number: int, server_round: int) -> None:
    if np.random.default_rng([federation.seed, DROPOUT, server_round, number]).random() < federation.dropout:
        raise DeviceLost(f"the reply of {site.spec.label} was lost")


def _answer(message: Message, metrics: dict[str, float], arrays: Arrays | None = None) -> Message:
    content = RecordDict({"metrics": MetricRecord(dict(metrics))})
    if arrays is not None:
        content["arrays"] = to_record(arrays)
    return Message(content, reply_to=message)
