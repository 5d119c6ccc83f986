"""Elman network over slots."""

from __future__ import annotations

from torch import nn

from airlam.models.comparators.recurrent import RecurrentComparator


class RNNComparator(RecurrentComparator):
    """Plain recurrent units with tanh; see :class:`RecurrentComparator`.

    Example:
        >>> import torch
        >>> h = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> RNNComparator(width=16)(h, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    kind, cell = "rnn", nn.RNN
