"""A module as an ONNX graph in a file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from airlam.errors import CheckpointError

OPSET = 20  # the first one with Gelu as an operator


class _Positional(nn.Module):
    """A network, its inputs by their order alone: however ``forward`` names them, the exporter sees one list."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.network(*inputs)


def write_graph(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    names: Sequence[str],
    outputs: Sequence[str],
    free: Sequence[dict[int, str]],
    backbone: str,
) -> None:
    """Write the graph of ``network`` to ``path``.

    Args:
        inputs: examples. names, outputs: of inputs and outputs; all different.
        free: of each input, the names of the axes that may have any size. Axes of one name have one size.
        backbone: its model type, for errors.

    Raises:
        CheckpointError: the exporter does not know some operator of the backbone.
        OSError: the disk is full, or the like.
    """
    axes = {name: torch.export.Dim(name) for one in free for name in one.values()}
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own affairs: registrations, names of shared axes
            program = torch.onnx.export(
                _Positional(network),
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(names),
                output_names=list(outputs),
                dynamic_shapes=(tuple({axis: axes[name] for axis, name in one.items()} for one in free),),
                external_data=False,
            )
            assert program is not None  # for the type checker: dynamo=True
            program.save(path)
    except OSError:  # the disk's affair, not the backbone's
        raise
    except Exception as error:  # the exporter wraps whatever goes wrong in its own types
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"a backbone of type {backbone!r} cannot be exported to ONNX: {reason}") from error
    finally:
        log.setLevel(level)
