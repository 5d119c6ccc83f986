"""One pass of the backbone for several answers: predictions, error variances, covariances, vectors for scalar heads.

Three steps, each of which may run in another process: :func:`tokenize` needs no weights but the tracker's,
:func:`encode` is the backbone, :func:`read_out` the head and what follows it in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from airlam.baselines.eigen_ar import Eigenbasis
from airlam.csi import PortShape, check_port_shape
from airlam.interfaces import extreme_scale
from airlam.models.airlam_model import AirlamModel
from airlam.models.hidden import pool
from airlam.models.tokens import Tokens
from airlam.models.views import WEIGHTS


@dataclass
class Pass:
    """Links on their way through the model.

    Attributes:
        views: their tokens in each basis. weights: of the views.
        scale: ``[link, 1, 1, 1, 1]``, of the normalised CSI.
        observed: ``bool [link, slot]``; ``None``: every slot was.
        num_future, num_rx_ant: sizes of the prediction.
    """

    views: list[Tokens]
    weights: tuple[float, ...]
    scale: Tensor
    observed: Tensor | None
    num_future: int
    num_rx_ant: int


@dataclass
class Answers:
    """What a pass gives.

    Attributes:
        future: ``complex64 [link, num_future, subcarrier, rx_ant, tx_ant]``.
        variance: of the same shape, real, of the links that asked for it. covariance: with one more ``tx_ant``.
        pooled: ``[link, 2 * width]``, see :func:`airlam.models.pooled_hidden`; ``None``: nobody asked.
    """

    future: Tensor
    variance: Tensor | None = None
    covariance: Tensor | None = None
    pooled: Tensor | None = None


def tokenize(
    model: AirlamModel,
    h_past: Tensor,
    num_future: int,
    *,
    port_shape: PortShape | None = None,
    observed: Tensor | None = None,
    context: dict[str, Any] | None = None,
    views: int | None = None,
) -> Pass:
    """Histories as tokens; arguments as :meth:`airlam.models.AirlamModel.forward`, of any scale.

    Example:
        >>> from airlam.models import AirlamConfig
        >>> model = AirlamModel(AirlamConfig(num_tokens=16, num_groups=0)).eval()
        >>> links = tokenize(model, torch.randn(3, 16, 12, 1, 4, dtype=torch.complex64), 2)
        >>> read_out(model, encode(model, links)).future.shape
        torch.Size([3, 2, 12, 1, 4])
    """
    extreme = extreme_scale(h_past)
    h = (h_past if extreme is None else h_past / extreme).to(torch.complex64)
    x, scale, observed = model._enter(h, observed)
    polarisations = check_port_shape(h.shape[-1], port_shape)[0]
    readings = model.readings(context, len(h))
    weights = tuple(WEIGHTS[views or model.config.views])
    tokens = [model.tokenize(x, num_future, polarisations, observed, view) for view in range(len(weights))]
    for each in tokens:
        each.readings = readings
    return Pass(tokens, weights, scale if extreme is None else scale * extreme, observed, num_future, h.shape[3])


def encode(model: AirlamModel, links: Pass) -> Pass:
    """The same with the backbone's output in every view's tokens."""
    for tokens in links.views:
        tokens.hidden = model.encode(tokens.features, tokens.readings)
    return links


def read_out(
    model: AirlamModel,
    links: Pass,
    *,
    variance: Tensor | None = None,
    covariance: Tensor | None = None,
    pooled: bool = False,
    subcarriers: Tensor | None = None,
) -> Answers:
    """Everything that was asked for, from one pass.

    Args:
        variance, covariance: indices of the links whose error variances or covariances are wanted.
        pooled: whether the pooled hidden states are wanted.
        subcarriers: indices of those whose covariances are wanted; ``None``: all.

    Raises:
        ValueError: the checkpoint was trained without error variances.
    """
    if (variance is not None or covariance is not None) and not model.config.error_variance:
        raise ValueError("this checkpoint has no error variances; ask for the prediction alone, or load another")
    out: dict[str, Tensor] = {}

    def add(name: str, weight: float, value: Tensor) -> None:
        out[name] = out[name] + weight * value if name in out else weight * value

    for tokens, weight in zip(links.views, links.weights, strict=True):
        estimate = model.predict_tokens(tokens, links.num_future, links.observed)
        add("future", weight, tokens.csi(estimate.series * tokens.scale, links.num_rx_ant))
        if variance is not None or covariance is not None:
            spread = estimate.variances(tokens)
            if variance is not None:
                basis = _of_links(tokens.basis, variance)
                add("variance", weight, basis.inverse_power(spread[variance], links.num_rx_ant))
            if covariance is not None:
                basis = _of_links(tokens.basis, covariance)
                if subcarriers is not None:
                    basis = basis._replace(frequency=basis.frequency[:, subcarriers])
                add("covariance", weight, basis.inverse_covariance(spread[covariance], links.num_rx_ant))
        if pooled:
            assert tokens.hidden is not None
            add("pooled", weight, pool(model.norm(tokens.hidden), tokens))
    out["future"] = links.scale * out["future"]
    if variance is not None:
        out["variance"] = links.scale[variance].square() * out["variance"]
    if covariance is not None:
        out["covariance"] = links.scale[covariance].square()[..., None] * out["covariance"]
    return Answers(**out)


def _of_links(basis: Eigenbasis, links: Tensor) -> Eigenbasis:
    return Eigenbasis(*(x[links] for x in basis))
