"""Which modules train for which objective, and what a model costs when some of them are frozen or adapted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from airlam.edge.parallel.cost_model.profiling import ModelProfile, Part
from airlam.recipes import check_choice

ROLES = ("frozen", "adapted", "trained")
LORA_RANK = 8
PASSES_ON = 0.5  # of a backward pass is the gradient of the input, the rest that of the weights


@dataclass(frozen=True)
class Objective:
    """What a model is trained for.

    Attributes:
        inputs: that help it, out of :data:`airlam.edge.parallel.cost_model.pool.INPUTS`.
        roles: of embedding, layers and head: frozen, adapted (low-rank factors train) or trained. encoders: of the
            encoder of each input besides the CSI's, which is the embedding.
        why: of the roles.
    """

    inputs: tuple[str, ...]
    roles: Mapping[str, str]
    encoders: Mapping[str, str]
    why: str


OBJECTIVES = {
    "masked": Objective(
        ("csi", "pilots"),
        {"embedding": "trained", "layer": "trained", "head": "trained"},
        {"pilots": "trained"},
        "pretraining makes the weights that all else starts from: everything trains",
    ),
    "prediction": Objective(
        ("csi", "velocity", "position"),
        {"embedding": "frozen", "layer": "adapted", "head": "trained"},
        {"velocity": "trained", "position": "trained"},
        "features of CSI are those of pretraining; the backbone adapts to the site, new sensors are learnt",
    ),
    "beams": Objective(
        ("csi", "pilots", "position", "occupancy", "depth"),
        {"embedding": "frozen", "layer": "adapted", "head": "trained"},
        {"pilots": "frozen", "position": "trained", "occupancy": "trained", "depth": "trained"},
        "pilots are encoded as in pretraining; maps of the scene are new to the backbone, the head is another one",
    ),
}


def with_roles(profile: ModelProfile, roles: Mapping[str, str], rank: int = LORA_RANK) -> ModelProfile:
    """The profile of a model some of whose parts are frozen or adapted.

    Below the lowest part that trains there is no backward pass; a frozen part above it passes the gradient on.

    Example:
        >>> from airlam.edge.parallel.cost_model.profiling import count_profile
        >>> from airlam.models import AirlamConfig
        >>> whole = count_profile(AirlamConfig())
        >>> head = with_roles(whole, {"embedding": "frozen", "layer": "frozen", "head": "trained"})
        >>> head.parameters < 0.1 * whole.parameters, head.parts["layer"].backward_link
        (True, 0.0)
    """
    parts, below = dict(profile.parts), False
    for name in ("embedding", "layer", "head"):
        role = check_choice(f"the role of {name}", roles[name], ROLES)
        parts[name] = _changed(parts[name], role, below, profile.shapes[name], rank)
        below = below or role != "frozen"
    return replace(profile, parts=parts)


def _changed(part: Part, role: str, below: bool, shapes: list[list[int]], rank: int) -> Part:
    if role == "trained":
        return part
    adapters = sum(rank * (shape[0] + shape[1]) for shape in shapes if len(shape) == 2) if role == "adapted" else 0
    share = adapters / max(1, part.parameters)
    back = (PASSES_ON if below or role == "adapted" else 0.0) + (1 - PASSES_ON) * share
    return replace(
        part,
        parameters=adapters,
        frozen=part.frozen + part.parameters,
        forward_link=part.forward_link * (1 + share),
        backward_link=part.backward_link * back,
        backward_call=part.backward_call * min(1.0, back),
        activation_bytes=part.activation_bytes * (1 if below or role == "adapted" else 0),
    )
