"""What a variant costs a pool whose devices share out heads, hidden units and inputs: parameters, memory, bytes.

Bytes are the closed forms of :mod:`airlam.edge.parallel.cost_model.volume`. Memory is that of the first device
with an equal share: its part of the model is built, a batch is run through it forwards, and what autograd keeps is
counted. The other devices' parts are not added: sizes do not depend on them.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from airlam.edge.parallel.cost_model.volume import looped_volume, wire_bytes
from airlam.edge.parallel.shares import share_out
from airlam.models import AirlamModel
from airlam.models.layers import layers_of
from airlam.models.sharding import COLUMN, cuts, make_row, num_heads, num_units

STATE_BYTES = 16  # of a parameter: weight, gradient, two moments of AdamW, single precision


class Costs(NamedTuple):
    """Of one device, in one training step.

    Attributes:
        devices: in the pool.
        parameters: that lie on the device.
        state_bytes: their weights, gradients and moments.
        activation_bytes: what autograd keeps of embedding, layers and head between forward and backward pass.
        payload_bytes: that the device hands to its collectives.
        server_bytes: that the busiest device, the server, puts on the wire.
    """

    devices: int
    parameters: int
    state_bytes: int
    activation_bytes: int
    payload_bytes: int
    server_bytes: float

    @property
    def memory_bytes(self) -> int:
        """States and activations."""
        return self.state_bytes + self.activation_bytes


def costs(model: AirlamModel, devices: int, *, links: int, tokens: int) -> Costs:
    """Costs of a pool of equal devices.

    Args:
        model: the whole model. links: in a batch. tokens: of a link.

    Raises:
        RecipeError: more devices than attention heads.
    """
    own = first_part(model, devices)
    depth = len(layers_of(model.backbone)) * model.config.loops
    width = model.backbone.config.hidden_size
    volume = looped_volume(links=links, tokens=tokens, width=width, loops=depth, ranks=devices)
    parameters = sum(p.numel() for p in own.parameters() if p.requires_grad)
    return Costs(
        devices,
        parameters,
        STATE_BYTES * parameters,
        kept_bytes(own, links, tokens),
        sum(volume.values()),
        sum(wire_bytes(kind, payload, devices) for kind, payload in volume.items()),
    )


def first_part(model: AirlamModel, devices: int) -> AirlamModel:
    """What lies on the first of ``devices`` equal devices: a copy of the model with its part of heads, hidden units and
    features. Its sums are left out, so its outputs mean nothing."""
    own = copy.deepcopy(model)
    backbone: Any = own.backbone
    heads = share_out(num_heads(backbone), [1] * devices, what="attention heads")[0]
    units = share_out(num_units(backbone), [1] * devices, what="hidden units")[0]
    for layer in layers_of(backbone):
        for name, cut in cuts(backbone, (0, heads), (0, units)).items():
            _cut(layer.get_submodule(name), *cut)  # type: ignore[arg-type]
    features = share_out(model.num_features, [1] * devices, what="features")[0]
    _cut(own.embedding[0], "row", 0, features)  # type: ignore[arg-type]
    return own


def _cut(linear: nn.Linear, kind: str, first: int, count: int) -> None:
    if kind == COLUMN:
        linear.weight = nn.Parameter(linear.weight.detach()[first : first + count].clone())
        if linear.bias is not None:
            linear.bias = nn.Parameter(linear.bias.detach()[first : first + count].clone())
    else:
        linear.weight = nn.Parameter(linear.weight.detach()[:, first : first + count].clone())
        make_row(linear, torch.clone)


def kept_bytes(own: AirlamModel, links: int, tokens: int) -> int:
    """Bytes of the tensors that autograd keeps from the forward pass of one batch, parameters not counted.

    Computed in single precision, with attention that writes out its weights (``eager``).
    """
    own.backbone.set_attn_implementation("eager")
    parameters = {p.untyped_storage().data_ptr() for p in own.parameters()}
    kept: dict[int, Tensor] = {}

    def note(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in parameters:
            kept[x.untyped_storage().data_ptr()] = x  # held, so that no address is used twice
        return x

    first: Any = own.embedding[0]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        hidden = own.transform(own.embedding(torch.zeros(links, tokens, first.weight.shape[1])))
        own.head(own.norm(hidden))
    return sum(x.untyped_storage().nbytes() for x in kept.values())
