"""Knowledge distillation: a small student learns, on the edge server, from the adapted backbone.

For devices that can hold neither the whole model nor a split one's traffic. The server makes links of its own (nobody's
data), the teacher predicts them, and the student learns the truth and the teacher's prediction at once:

    loss = (1 - weight) log NMSE(student, truth) + weight log NMSE(student, teacher)

Student and teacher see the same tokens, so their predictions are compared coefficient by coefficient.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from airlam.edge.federated.learning.sites import TRAIN, Places
from airlam.edge.federated.recipe.federation import Federation
from airlam.models import AirlamConfig, AirlamModel
from airlam.seeds import noise_seed
from airlam.tasks.objectives import Target, energy, forecast_target, predicted_error
from airlam.tasks.optimisation import adamw_with_warmup

STUDENT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
DISTILLATION = 104  # key of seeds


def make_student(teacher: AirlamModel, seed: int, **backbone: Any) -> AirlamModel:
    """A smaller model with random weights that reads the teacher's tokens, and has its tracker.

    Args:
        backbone: fields of the backbone's configuration that differ from the teacher's; the default is two layers of
            width 64.
    """
    spec = teacher.config.backbone
    assert isinstance(spec, dict)
    config: AirlamConfig = copy.deepcopy(teacher.config)
    config.backbone = {**spec, **(backbone or STUDENT)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = AirlamModel(config)
    if student.tracker is not None and teacher.tracker is not None:
        student.tracker.load_state_dict(teacher.tracker.state_dict())
    return student


def server_batches(federation: Federation, batch_size: int, seed: int) -> Iterator[tuple[Any, Any, Any]]:
    """Endless batches ``(history, future, port shape)`` from places that the server simulates.

    The sites are of the run's kinds, at other places and with other users.
    """
    generator = torch.Generator().manual_seed(seed)
    seeds = (noise_seed(DISTILLATION, seed, site.seed) % 2**31 for site in federation.site_specs)
    f = federation.with_sites([replace(site, seed=at) for site, at in zip(federation.site_specs, seeds, strict=True)])
    places, step = Places(), 0
    while True:
        site = places.site(f, int(torch.randint(len(f.site_specs), (), generator=generator)))
        users = torch.randperm(len(site.train), generator=generator)[:batch_size]
        past = site.measured(site.train, users, TRAIN, seed, step)
        yield past, site.train.h[users, f.history : f.history + f.horizon], site.train.port_shape
        step += 1


def distil(
    federation: Federation,
    teacher: AirlamModel,
    student: AirlamModel,
    *,
    steps: int,
    weight: float = 0.5,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> AirlamModel:
    """Train ``student`` in place.

    Args:
        weight: of the teacher, between 0 (the truth alone: the control) and 1.

    Raises:
        ValueError: a weight out of bounds.
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight is {weight}, but must lie between 0 and 1")
    if student.tracker is not None:
        student.tracker.requires_grad_(False)
    parts = adamw_with_warmup(
        student, learning_rate=learning_rate, weight_decay=0.0, warmup_steps=max(1, steps // 20), total_steps=steps
    )
    optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
    batches = server_batches(federation, federation.batch_size, seed)
    teacher.eval()
    student.train()
    fast = federation.precision == "bfloat16"
    for _ in range(steps):
        past, future, port_shape = next(batches)
        target = forecast_target(teacher, past, future, port_shape)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            loss = (1 - weight) * predicted_error(student, target).log().mean()
            if weight:
                loss = loss + weight * predicted_error(student, taught(teacher, target)).log().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return student.eval()


@torch.no_grad()
def taught(teacher: AirlamModel, target: Target) -> Target:
    """The same tokens with the teacher's prediction in the truth's place."""
    tokens = target.tokens
    said = teacher.predict_tokens(tokens, target.kept.shape[-1]).series * tokens.scale
    # a student that agrees to within a thousandth of the energy agrees
    floor = 1e-3 * energy(said)
    return Target(tokens, said, floor, energy(said).clamp_min(1e-30), 0)
