"""A checkpoint as an ONNX graph; :mod:`airlam.models.onnx_model` says what stays outside, and runs it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from importlib import util
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from airlam.errors import CheckpointError
from airlam.io import file_hash, flush_to_disk, use_umask
from airlam.models import AirlamModel, OnnxModel
from airlam.models.checkpoint import CHECKSUM as WEIGHTS_CHECKSUM
from airlam.models.onnx_model import CHECKSUM, FORMAT, GRAPH, INPUTS, OUTPUTS, PARAMETERS, TRACKER, TRACKER_CHECKSUM

OPSET = 20  # the first one with Gelu as an operator
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# Both compute in single precision, but sum in another order; measured: 2e-6, and 1e-5 for the logarithm of a variance.
TOLERANCE = 1e-4


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
    folder = Path(folder)
    if not isinstance(model, AirlamModel):
        raise TypeError(f"only an AirlamModel can be exported, got {type(model).__name__}")
    if model.config.context:
        sensors = ", ".join(model.config.context)
        raise CheckpointError(f"the model has sensors ({sensors}), for which a graph has no inputs; export one without")
    if missing := [name for name in PACKAGES if util.find_spec(name) is None]:
        raise CheckpointError(f"export to ONNX needs {', '.join(missing)}; pip install 'airlam[onnx]'")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise CheckpointError(f"{folder} exists and is not an empty folder; name another one, or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".exporting-", dir=folder.parent))
    try:
        network = _Network(model).eval()
        inputs = _example(model)
        _write_graph(network, inputs, work / GRAPH)
        if int8:
            _quantise(work / GRAPH)
        _write_config(model, work, "onnx-int8" if int8 else "onnx")
        if not int8:
            _compare(network, OnnxModel(work), inputs)
        for file in work.iterdir():
            flush_to_disk(file)
            use_umask(file)
        use_umask(work)
        os.replace(work, folder)  # onto nothing or an empty folder; anything else is refused by the system as well
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


class _Network(nn.Module):
    """``model.network`` as a module, without the outputs that are ``None``."""

    def __init__(self, model: AirlamModel):
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, log_periodogram: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        return tuple(x for x in self.model.network(features, log_periodogram, noise) if x is not None)


def _example(model: AirlamModel) -> tuple[Tensor, ...]:
    """Three links of five tokens: neither number means anything to the network."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 5, model.num_features, generator=generator)
    log_periodogram = torch.randn(3, 5, model.config.doppler_grid, generator=generator)
    return features, log_periodogram, torch.rand(3, 5, generator=generator)


def _write_graph(network: _Network, inputs: tuple[Tensor, ...], path: Path) -> None:
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


def _write_config(model: AirlamModel, folder: Path, kind: str) -> None:
    fields = json.loads(model.config.to_json_string(use_diff=True))
    fields.pop(WEIGHTS_CHECKSUM, None)
    fields |= {FORMAT: kind, CHECKSUM: file_hash(folder / GRAPH), PARAMETERS: model.num_parameters()}
    if model.tracker is not None:
        save_file({name: x.contiguous() for name, x in model.tracker.state_dict().items()}, folder / TRACKER)
        fields[TRACKER_CHECKSUM] = file_hash(folder / TRACKER)
    (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")


def _compare(network: _Network, exported: OnnxModel, inputs: tuple[Tensor, ...]) -> None:
    """Every output, for three links and for one, against the model."""
    with torch.no_grad():
        for links in (3, 1):
            features, log_periodogram, noise = given = tuple(x[:links] for x in inputs)
            wanted = network(*given)
            got = [x for x in exported.network(features, log_periodogram, noise) if x is not None]
            for name, a, b in zip(OUTPUTS, got, wanted, strict=False):
                error = float((a - b).abs().max() / b.abs().max().clamp_min(1e-20))
                if not error <= TOLERANCE:
                    raise CheckpointError(f"the exported graph's {name} is off by {error:.1e}, over {TOLERANCE}")
