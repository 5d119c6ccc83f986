"""A plain transformer encoder over slots."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from airlam.models.comparators.comparator import silent
from airlam.models.comparators.sequences import SequenceComparator


class TransformerComparator(SequenceComparator):
    """A transformer encoder over the slots of one beam, every parameter trained.

    As published (Jiang, Cui, Ng, Dai, "Accurate Channel Prediction Based on Transformer", 2022): slots are tokens, and
    all future slots are predicted in parallel. Ours, besides what :class:`SequenceComparator` says: an encoder alone,
    in which a learned query per future slot attends to the history (there an encoder and a decoder), and layer norms
    before each block.

    Args:
        width: of the tokens. num_layers, num_heads: of the encoder; its inner layers are four times as wide.

    Example:
        >>> h = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> TransformerComparator(width=16, num_layers=1, num_heads=2)(h, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    kind = "transformer"

    def __init__(
        self,
        *,
        history: int = 16,
        horizon: int = 4,
        num_subcarriers: int = 48,
        width: int = 128,
        num_layers: int = 4,
        num_heads: int = 4,
    ):
        super().__init__(
            history=history,
            horizon=horizon,
            num_subcarriers=num_subcarriers,
            width=width,
            num_layers=num_layers,
            num_heads=num_heads,
        )
        self.arguments.pop("beams_per_sequence")
        self.embedding = nn.Linear(self.num_features, width)
        self.position = nn.Parameter(0.02 * torch.randn(history, width))
        self.query = nn.Parameter(0.02 * torch.randn(horizon, width))
        layer = nn.TransformerEncoderLayer(
            width, num_heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = silent(nn.Linear(width, 2 * self.num_coefficients))

    def sequence(self, features: Tensor, series: Tensor) -> Tensor:
        """See :class:`SequenceComparator`."""
        tokens = self.embedding(features) + self.position
        tokens = torch.cat([tokens, self.query.expand(len(tokens), -1, -1).to(tokens.dtype)], 1)
        return self.head(self.encoder(tokens)[:, -self.horizon :])
