"""A checkpoint as a LiteRT graph (``.tflite``); :mod:`airlam.models.exported` says what stays outside."""

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
from airlam.models import AirlamModel, LitertModel

PACKAGES = ("litert_torch", "ai_edge_litert")
INSTALL = "it takes an environment of its own: see docs/export.md, LiteRT"


def export_litert(model: AirlamModel, folder: str | Path, *, int8: bool = False) -> Path:
    """Write ``model`` to ``folder``: ``model.tflite``, ``config.json``, and the tracker's weights where there is one.

    The graph takes one link with as many tokens as the model's configuration gives (``num_tokens + num_groups``), and
    a mask, since smaller inputs have fewer. It is run once and compared with the model before the folder appears.

    Args:
        model: a plain model; adapters are merged with ``merge_and_unload()`` first.
        folder: new or empty.
        int8: the backbone's weights in eight bits, its activations quantised as they come. Embedding and head stay in
            single precision: they see and emit logarithms of powers over many decades.

    Returns:
        ``folder``; ``airlam.load_predictor(folder)`` runs it.

    Raises:
        CheckpointError: the converter is not installed, ``folder`` holds something, the backbone cannot be exported,
            or the graph does not compute what the model does.

    Example:
        >>> from airlam.export import export_litert
        >>> from airlam.models import AirlamConfig, AirlamModel
        >>> folder = export_litert(AirlamModel(AirlamConfig(num_tokens=8, num_groups=0)), "phone")  # doctest: +SKIP
    """
    check_model(model, PACKAGES, "LiteRT", INSTALL)
    tokens = model.config.num_tokens + model.config.num_groups

    def write(work: Path) -> None:
        path = work / LitertModel.graph
        _write_graph(_MaskedNetwork(model).eval(), (*example(model, 1, tokens), torch.ones(1, tokens)), path)
        if int8:
            _quantise(path)
        write_config(model, work, "litert-int8" if int8 else "litert", LitertModel.graph)
        if not int8:
            inputs = example(model, 3, max(1, tokens // 2))  # half of the places are filled up
            compare(Network(model).eval(), LitertModel(work), inputs)

    return write_folder(folder, write)


class _MaskedNetwork(Network):
    """The network with places that hold no token: ``mask`` ``[link, token]`` is 0 there."""

    def forward(  # type: ignore[override]
        self, features: Tensor, log_periodogram: Tensor, noise: Tensor, mask: Tensor
    ) -> tuple[Tensor, ...]:
        embedded = self.model.embedding(features)
        # added to the scores of attention; ready-made, or the backbone would look for zeros, which a graph cannot
        bias = (1 - mask)[:, None, None, :] * -1e9
        hidden = self.model.transform(embedded, bias.expand(-1, 1, mask.shape[1], -1))
        return tuple(x for x in self.model.read(hidden, log_periodogram, noise) if x is not None)


def _write_graph(network: _MaskedNetwork, inputs: tuple[Tensor, ...], path: Path) -> None:
    import litert_torch

    levels = {name: logging.getLogger(name).level for name in ("", "torch", "litert_torch")}
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")  # the converter's own affairs
            for name in levels:
                logging.getLogger(name).setLevel(logging.ERROR)
            litert_torch.convert(network, inputs).export(str(path))
    except Exception as error:  # the converter wraps whatever goes wrong in its own types
        reason = " ".join(str(error).split())[:200]
        kind = network.model.backbone.config.model_type
        raise CheckpointError(f"a backbone of type {kind!r} cannot be exported to LiteRT: {reason}") from error
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _quantise(path: Path) -> None:
    """Weights of the backbone's matrix products to eight bits, a scale for each column, in place."""
    from ai_edge_quantizer import qtyping, quantizer

    tool = quantizer.Quantizer(str(path))
    tool.add_dynamic_config(
        regex=r"transformers\.models",  # operations are named after the modules that they come from
        operation_name=qtyping.TFLOperationName.FULLY_CONNECTED,
        num_bits=8,
    )
    small = path.with_name("small.tflite")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # a report, a bar
        tool.quantize().export_model(str(small))
    small.replace(path)
