"""A checkpoint as an ONNX graph; what stays outside of it: :mod:`airlam.models.exported` and ``onnx_sites`` there."""

from __future__ import annotations

import logging
from pathlib import Path

from airlam.export.folder import (
    Network,
    check_model,
    check_packages,
    compare,
    example,
    record_error,
    write_config,
    write_folder,
)
from airlam.export.onnx_graph import write_graph
from airlam.export.onnx_sites import write_site_network
from airlam.models import AirlamMap, AirlamModel, AirlamPosition, OnnxModel
from airlam.models.exported import INPUTS, OUTPUTS

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INSTALL = "pip install 'airlam[onnx]'"
KINDS = "an AirlamModel, AirlamMap or AirlamPosition"


def export_onnx(model: AirlamModel | AirlamMap | AirlamPosition, folder: str | Path, *, int8: bool = False) -> Path:
    """Write ``model`` to ``folder``: ``model.onnx``, ``config.json``, and the tracker's weights where there is one.

    The graph is run and compared with the model before the folder appears; ``config.json`` keeps the largest error of
    an output over its largest value as ``largest_error`` (not with ``int8``).

    Numbers of links and of tokens are free in the graph of a predictor; it takes histories up to ``config.max_history``
    slots, as the model does. Numbers of places, of measured places and of their neighbours are free in the graph of a
    radio map, the number of users in that of positions.

    Args:
        model: a plain model; adapters are merged with ``merge_and_unload()`` first.
        folder: new or empty.
        int8: the backbone's weights in eight bits, its activations quantised as they come (one scale a link).
            Embedding and head stay in single precision: they see and emit logarithms of powers over many decades.
            Of predictors alone.

    Returns:
        ``folder``; ``airlam.load_predictor(folder)`` runs it, or :class:`airlam.models.OnnxMap` and
        :class:`airlam.models.OnnxPosition`.

    Raises:
        CheckpointError: packages of the extra ``onnx`` are missing, ``folder`` holds something, the backbone cannot
            be exported, or the graph does not compute what the model does.
        TypeError: another model. ValueError: ``int8`` with a model that is no predictor.

    Example:
        >>> from airlam.export import export_onnx
        >>> from airlam.models import AirlamConfig, AirlamModel
        >>> folder = export_onnx(AirlamModel(AirlamConfig(num_tokens=8, num_groups=0)), "exported")  # doctest: +SKIP
    """
    if isinstance(model, (AirlamMap, AirlamPosition)):
        if int8:
            raise ValueError(f"int8 is for predictors alone, not for {type(model).__name__}; leave it out")
        check_packages(PACKAGES, "ONNX", INSTALL)
        return write_folder(folder, lambda work: write_site_network(model, work))
    check_model(model, PACKAGES, "ONNX", INSTALL, KINDS)

    def write(work: Path) -> None:
        network, inputs = Network(model).eval(), example(model)
        names = OUTPUTS if model.config.error_variance else OUTPUTS[:-1]
        free = tuple({0: "links", 1: "tokens"} for _ in inputs)
        backbone = model.backbone.config.model_type
        write_graph(network, inputs, work / OnnxModel.graph, INPUTS, names, free, backbone)
        if int8:
            _quantise(work / OnnxModel.graph)
        write_config(model, work, "onnx-int8" if int8 else "onnx", OnnxModel.graph)
        if not int8:
            record_error(work, compare(network, OnnxModel(work), inputs))

    return write_folder(folder, write)


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
