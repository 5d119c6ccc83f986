"""What each service costs on this machine: seconds, memory, bytes between."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from typing import Any

import torch

from airlam.errors import RecipeError
from airlam.loading import load_precoder, load_predictor
from airlam.models import AirlamModel
from airlam.models.shared_pass import encode, read_out, tokenize
from airlam.serving.config import STAGES, Warm
from airlam.serving.placement.problem import Service

ROUNDS = 15
PROCESS_MB = 450.0  # of a replica with torch and airlam loaded, before any model; measured as resident memory


def measured_services(model: str, warm: Warm) -> tuple[list[Service], float]:
    """The stages of a model, and the bytes of a request.

    Args:
        model: an airlam checkpoint. warm: sizes of its requests.

    Raises:
        RecipeError: a predictor without stages.
    """
    predictor = load_predictor(model)
    network: Any = getattr(predictor, "model", None)
    if not isinstance(network, AirlamModel):
        raise RecipeError(f"model is {model!r}, but only airlam checkpoints run in stages")
    sizes = (1, warm.slots, warm.subcarriers, warm.rx_ants, warm.tx_ants)
    h = torch.randn(sizes, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)
    shape: Any = tuple(warm.port_shape) or None
    with torch.inference_mode():
        begun = tokenize(network, h, warm.num_future, port_shape=shape)
        features = sum(tokens.features.nbytes for tokens in begun.views)
        done = encode(network, begun)
        seconds = {
            "tokenizer": _seconds(lambda: tokenize(network, h, warm.num_future, port_shape=shape)),
            "backbone": _seconds(lambda: encode(network, begun)),
            "heads": _seconds(lambda: read_out(network, done)),
        }
        out = {
            # backbone and heads are sent what the tokenizer made; the heads need all of it
            "tokenizer": float(len(pickle.dumps(done)) + features),
            "backbone": float(sum(tokens.hidden.nbytes for tokens in done.views if tokens.hidden is not None)),
            "heads": float(read_out(network, done).future.nbytes),
        }
    weights = sum(parameter.nbytes for parameter in network.parameters()) / 1e6
    return [Service(name, seconds[name], weights, out[name], core=name == "backbone") for name in STAGES], float(
        h.nbytes
    )


def measured_light(name: str, method: str, warm: Warm, users: int = 4) -> tuple[Service, float]:
    """A service that has no stages, and the bytes of a request.

    Args:
        name: ``classics`` or ``precoding``. method: a predictor or precoder. warm: sizes of requests to predictors;
            precoders are asked for its subcarriers and transmit antennas, and for ``users``.
    """
    generator = torch.Generator().manual_seed(0)
    if name == "precoding":
        precoder = load_precoder(method)
        h = torch.randn(warm.subcarriers, users, warm.tx_ants, generator=generator, dtype=torch.complex64)
        call: Callable[[], torch.Tensor] = lambda: precoder.precode(h, 1.0, 0.01)  # noqa: E731
        held: Any = precoder
    else:
        predictor = load_predictor(method)
        sizes = (1, warm.slots, warm.subcarriers, warm.rx_ants, warm.tx_ants)
        h = torch.randn(sizes, generator=generator, dtype=torch.complex64)
        shape: Any = tuple(warm.port_shape) or None
        call = lambda: predictor.predict(h, warm.num_future, port_shape=shape)  # noqa: E731
        held = predictor
    module = getattr(held, "model", held)
    weights = sum(p.nbytes for p in module.parameters()) / 1e6 if isinstance(module, torch.nn.Module) else 0.0
    with torch.inference_mode():
        return Service(name, _seconds(call), weights, float(call().nbytes), core=False), float(h.nbytes)


def _seconds(function: Callable[[], object]) -> float:
    function()
    found = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        function()
        found.append(time.perf_counter() - begin)
    return float(torch.tensor(found).median())
