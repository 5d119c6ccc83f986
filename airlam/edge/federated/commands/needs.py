"""What each option of a device needs: memory, operations, bytes; counted on a batch of its site's users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from airlam.edge.federated.adapters import fitted
from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.learning.sites import Places, Site
from airlam.edge.federated.learning.split import SplitLearner, device_costs, gradients
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.wire import wire_bytes
from airlam.edge.planner import Need, Option, priced
from airlam.edge.selection import Candidate
from airlam.models.split import num_layers, on_device
from airlam.resources import count_activations, draw_link, training_bytes


def site_options(federation: Federation, ranks: Sequence[int]) -> dict[str, list[Option]]:
    """Every option of every site, with an equal share of the band and the mean of its radio."""
    f = federation
    share = f.radio.bandwidth / f.participation.devices
    found: dict[str, list[Option]] = {}
    known: dict[tuple, list[Need]] = {}
    places = Places()
    learners = {rank: Learner(_of_rank(f, rank), rank) for rank in ranks}
    for number, spec in enumerate(f.site_specs):
        site = places.site(f, number)
        link = draw_link(f.radio, spec.distance_m, spec.device.transmit_dbm, place_seed=spec.seed, round_seed=None)
        candidate = Candidate(spec.device, link, 0.0, 0.0, 0.0)
        # what an option needs depends on the data through its shape alone
        shape = (tuple(site.train.h.shape[2:]), min(f.batch_size, len(site.train)))
        if shape not in known:
            known[shape] = [need for rank in ranks for need in needs(learners[rank], site, rank)]
        found[spec.label] = [priced(need, candidate, share, f.edge_server) for need in known[shape]]
    return found


def _of_rank(federation: Federation, rank: int) -> Federation:
    """The run with this rank everywhere."""
    return federation.with_sites([replace(site, lora_rank=None) for site in federation.site_specs], lora_rank=rank)


def needs(learner: Learner, site: Site, rank: int) -> list[Need]:
    """What each option of one rank needs: counted by torch on a batch of the site's users."""
    f = learner.federation
    size = min(f.batch_size, len(site.train))
    users = torch.arange(len(site.train))[:size]
    start = fitted(learner.start(), rank)
    kept = count_activations(lambda: learner.objective.loss(site, users, 0))
    memory, size_bytes = training_bytes(learner.model, kept), wire_bytes(start, f.wire)
    up = wire_bytes(f.scheme.update(learner.shapes, rank), f.wire)
    flops = f.local_steps * learner.step_flops(site, size)
    found = [Need("local", 0, rank, memory, float(flops), up, size_bytes)]
    base = learner.model.get_base_model()
    splittable = f.task == "prediction" and base.context is None and not (f.attacker or f.protection)
    if f.scheme.changes_weights or f.server_strategy.changes_training or f.secure_aggregation or f.wire != "float32":
        splittable = False
    layers = range(num_layers(base) + 1) if splittable else ()
    for depth in layers:
        split = SplitLearner(f, learner, depth)
        costs = device_costs(split, site)
        target = split.target(site, 0, 0)
        held = nn.ModuleDict(
            {
                name.replace(".", "-"): module
                for name, module in base.named_modules()
                if not list(module.children()) and on_device(name, depth)
            }
        )

        def work(split: SplitLearner = split, target: Any = target) -> tuple[torch.Tensor, torch.Tensor]:
            x = split.front(target)
            return x, split.loss(target, x.detach().requires_grad_())

        memory = training_bytes(held, count_activations(work))
        gradients(split.device | split.server)
        mine = wire_bytes({name: value for name, value in start.items() if on_device(name[2:], depth)})
        crossing = f.local_steps * costs["activations"] + mine
        work_there = f.local_steps * costs["server-flops"]
        found.append(Need("split", depth, rank, memory, f.local_steps * costs["flops"], crossing, crossing, work_there))
    return found
