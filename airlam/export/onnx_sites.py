"""Networks of radio maps and of positions as ONNX graphs; :mod:`airlam.models.onnx_sites` runs them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from airlam.export.folder import largest_error, record_error, write_config
from airlam.export.onnx_graph import write_graph
from airlam.models import AirlamMap, AirlamPosition, OnnxMap, OnnxPosition
from airlam.models.onnx_sites import Axes, OnnxNetwork

# Sizes of the free axes: at export, where none may be 1 or look like another, and in the comparison with the model.
EXPORTED = {"users": 5, "queries": 5, "known": 7, "neighbours": 3}
COMPARED = (
    {"users": 64, "queries": 64, "known": 40, "neighbours": 16},
    {"users": 1, "queries": 1, "known": 1, "neighbours": 1},
)


def write_site_network(model: AirlamMap | AirlamPosition, work: Path) -> None:
    """Fill the folder ``work``: the graph, ``config.json`` with the largest error of the graph.

    Raises:
        CheckpointError: the backbone cannot be exported, or the graph does not compute what the model does.
    """
    kind: type[OnnxNetwork] = OnnxMap if isinstance(model, AirlamMap) else OnnxPosition
    network, axes = model.eval(), kind.axes_of(model.config)
    free = [{n: axis for n, axis in enumerate(one) if isinstance(axis, str)} for one in axes.values()]
    backbone = network.backbone.config.model_type
    write_graph(network, examples(axes, EXPORTED), work / kind.graph, list(axes), kind.outputs, free, backbone)
    write_config(model, work, kind.formats[0], kind.graph)
    exported, errors = kind(work), []
    with torch.no_grad():
        for sizes in COMPARED:
            inputs = examples(axes, sizes)
            errors.append(largest_error(kind.outputs, exported(*inputs), network(*inputs)))
    record_error(work, max(errors))


def examples(axes: Axes, sizes: dict[str, int]) -> tuple[Tensor, ...]:
    """Inputs of a network, drawn; see :class:`~airlam.models.radio_map.MapInputs` and
    :class:`~airlam.models.position.PositionInputs` for what they stand for.

    Args:
        sizes: of the free axes.
    """
    generator, found = torch.Generator().manual_seed(0), {}
    for name, one in axes.items():
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in one]
        x = torch.randn(shape, generator=generator)
        if name in ("profile", "known_profile"):  # shares of a power
            x = x.flatten(1).softmax(-1).view(shape)
        elif name == "spread":  # dB
            x = 5 + x.abs()
        elif name == "factor":  # lower, a positive diagonal
            x = x.tril(-1) + torch.diag_embed(1 + x.diagonal(dim1=1, dim2=2).abs())
        elif name == "rows":
            x = torch.randint(sizes["known"], shape, generator=generator)
        elif name == "direct":
            x = torch.randint(int(found["profile"].shape[1]), shape, generator=generator)
        found[name] = x
    return tuple(found.values())
