"""What federated training is compared with: training on all data in one place, and every site by itself."""

from __future__ import annotations

from collections.abc import Callable

import torch

from airlam.edge.federated.adapters import Arrays
from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.learning.objectives import Prediction, trained
from airlam.edge.federated.learning.optimisers import learning_rate, optimiser
from airlam.edge.federated.learning.sites import TRAIN, Places
from airlam.edge.federated.recipe.federation import Federation
from airlam.seeds import noise_seed

Validate = Callable[[int, Arrays], None]


def train_centrally(
    federation: Federation, learner: Learner, places: Places, validate: Validate | None = None
) -> Arrays:
    """Train on all sites' users in one place, with as many steps of as many users as all sites together take.

    One optimiser throughout, and the learning rate of the rounds.

    Args:
        learner: loaded with the start. places: the sites' users.
        validate: called with the round and the arrays after each round's worth of steps.
    """
    f = federation
    objective = learner.objective
    assert isinstance(objective, Prediction)
    sites = [places.site(f, number) for number in range(len(f.site_specs))]
    members = torch.tensor([(n, user) for n, site in enumerate(sites) for user in range(len(site.train))])
    parameters = list(trained(learner.model).values())
    optimizer = optimiser(f, parameters, f.learning_rate)
    generator = torch.Generator().manual_seed(noise_seed(f.seed, 0))
    order = torch.empty(0, dtype=torch.int64)
    size = min(f.batch_size, len(members))
    for number in range(1, f.rounds + 1):
        learner.model.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(f, number)
        for step in range(f.local_steps * len(sites)):
            while len(order) < size:
                order = torch.cat([order, torch.randperm(len(members), generator=generator)])
            chosen, order = members[order[:size]], order[size:]
            losses = []
            with torch.autocast("cpu", torch.bfloat16, enabled=objective.fast):
                for n in chosen[:, 0].unique().tolist():
                    users = chosen[chosen[:, 0] == n, 1]
                    key = (TRAIN, f.seed, number, step)
                    losses.append(objective.error(sites[n], sites[n].train, users, *key).log())
                loss = torch.cat(losses).mean()
            optimizer.zero_grad()
            loss.backward()
            if f.optimizer == "adamw":
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        if validate:
            validate(number, learner.arrays())
    learner.model.eval()
    return learner.arrays()


def train_alone(federation: Federation, learner: Learner, number: int, places: Places) -> Arrays:
    """Train on one site's users alone: its own steps of all rounds, one optimiser, nothing sent."""
    return train_centrally(federation.with_sites([federation.site_specs[number]]), learner, places)
