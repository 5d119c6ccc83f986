"""A checkpoint as an ONNX graph; :mod:`airlam.models.exported` says what stays outside."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor

from airlam.errors import CheckpointError
from airlam.export.folder import Network, check_model, compare, example, write_config, write_folder
from airlam.models import AirlamModel, OnnxModel
from airlam.models.exported import INPUTS, OUTPUTS

OPSET = 20  # the first one with Gelu as an operator
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(model: AirlamModel, folder: str | Path, *, int8: bool = False) -> Path:
    """Write ``model`` to ``folder``: ``model.onnx``, ``config.json``, and the tracker's weights where there is one.

    The graph is run once and compared with the model before the folder appears. Number of links and number of tokens
    are free in it; it takes histories up to ``config.max_history`` slots, as the model does.

    Args:
        model: a plain model; adapters are merged with ``merge_and_unload()`` first.
        folder: new or empty.
        int8: the backbone's weights in eight bits, its activations quantised as they come (one scale a link).
            Embedding and head stay in single precision: they see and emit logarithms of powers over many decades.

    Returns:
        ``folder``; ``airlam.load_predictor(folder)`` runs it.

    Raises:
        CheckpointError: packages of the extra ``onnx`` are missing, ``folder`` holds something, the backbone cannot
            be exported, or the graph does not compute what the model does.

    Example:
        >>> from airlam.export import export_onnx
        >>> from airlam.models import AirlamConfig, AirlamModel
        >>> folder = export_onnx(AirlamModel(AirlamConfig(num_tokens=8, num_groups=0)), "exported")  # doctest: +SKIP
    """
    check_model(model, PACKAGES, "ONNX", "pip install 'airlam[onnx]'")

    def write(work: Path) -> None:
        network, inputs = Network(model).eval(), example(model)
        _write_graph(network, inputs, work / OnnxModel.graph)
        if int8:
            _quantise(work / OnnxModel.graph)
        write_config(model, work, "onnx-int8" if int8 else "onnx", OnnxModel.graph)
        if not int8:
            compare(network, OnnxModel(work), inputs)

    return write_folder(folder, write)


def _write_graph(network: Network, inputs: tuple[Tensor, ...], path: Path) -> None:
    links, tokens = torch.export.Dim("links"), torch.export.Dim("tokens")
    names = OUTPUTS if network.model.config.error_variance else OUTPUTS[:-1]
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's own affairs: registrations, names of shared axes
            program = torch.onnx.export(
                network,
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(INPUTS),
                output_names=list(names),
                dynamic_shapes=tuple({0: links, 1: tokens} for _ in inputs),
                external_data=False,
            )
            assert program is not None  # for the type checker: dynamo=True
            program.save(path)
    except OSError:  # the disk's affair, not the backbone's
        raise
    except Exception as error:  # the exporter wraps whatever goes wrong in its own types
        reason = " ".join(str(error).split())[:200]
        kind = network.model.backbone.config.model_type
        raise CheckpointError(f"a backbone of type {kind!r} cannot be exported to ONNX: {reason}") from error
    finally:
        log.setLevel(level)


def _quantise(path: Path) -> None:
    """Weights of the backbone's matrix products to eight bits, in place."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    products = [node.name for node in onnx.load(path).graph.node if node.op_type in ("MatMul", "Gemm")]
    full = path.with_name("full.onnx")
    path.rename(full)
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)  # it recommends a pre-processing that the exporter has done
    try:
        quantize_dynamic(
            full,
            path,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # in the order of computation: two layers of the embedding first, the head last
            nodes_to_exclude=[*products[:2], products[-1]],
        )
    finally:
        log.setLevel(level)
    full.unlink()
