"""The backbone's hidden states as one vector for each link, the input of linear probes."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi import PortShape, check_port_shape, normalise
from airlam.interfaces import check_csi
from airlam.models.airlam_model import AirlamModel
from airlam.models.tokens import Tokens


@torch.no_grad()
def pooled_hidden(model: AirlamModel, h: Tensor, port_shape: PortShape | None = None, *, chunk: int = 64) -> Tensor:
    """Hidden states of the last layer, pooled over tokens: their mean, and their mean weighted with the tokens' power.

    Args:
        model: its weights do not change.
        h: measured history ``complex [link, slot, subcarrier, rx_ant, tx_ant]``.
        port_shape: (polarisations, columns, rows) of ``tx_ant``.
        chunk: links per forward pass.

    Returns:
        ``[link, 2 * width]``. Neither a global phase nor a global scale changes it.

    Example:
        >>> from airlam.models import AirlamConfig
        >>> model = AirlamModel(AirlamConfig(num_tokens=16, num_groups=0))
        >>> pooled_hidden(model, torch.randn(3, 16, 12, 1, 4, dtype=torch.complex64)).shape
        torch.Size([3, 256])
    """
    check_csi(h, name="h")
    polarisations = check_port_shape(h.shape[-1], port_shape)[0]
    model.eval()
    out = []
    for part in h.to(torch.complex64).split(chunk):
        x, _ = normalise(part[:, -model.config.max_history :])
        tokens = model.tokenize(model.track(x), 1, polarisations)
        hidden = model.norm(model.transform(model.embedding(tokens.features)))
        out.append(pool(hidden, tokens))
    return torch.cat(out)


def pool(hidden: Tensor, tokens: Tokens) -> Tensor:
    """Hidden states ``[link, token, width]`` behind the last norm, over tokens: their mean, and that weighted with the
    tokens' power, ``[link, 2 * width]``."""
    power = tokens.per_token(tokens.scale.square())
    weighted = (power * hidden).sum(1) / power.sum(1).clamp_min(1e-12)
    return torch.cat([hidden.mean(1), weighted], -1)
