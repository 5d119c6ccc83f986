"""A comparator on top of the strongest classical start."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from airlam.baselines import EigenARPredictor
from airlam.csi import PortShape
from airlam.models.comparators.comparator import Comparator


class RefinedComparator(Comparator):
    """Another comparator that corrects :class:`airlam.baselines.EigenARPredictor` instead of "hold".

    airlam's own networks start from that filter, the other comparators from the held last slot. This one shows the
    effect of the start: the input of its network is the measured slots followed by the filter's prediction, and its
    output is a correction of that prediction. Before training it is the filter (default settings; only the beam-delay
    coefficients that its 256 strongest modes reach).

    Args:
        network: kind of the network; ``arguments`` are its own.

    Example:
        >>> h = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> RefinedComparator(network="cnn", width=8, num_blocks=1)(h, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    kind = "refined"

    def __init__(self, *, network: str, history: int = 16, horizon: int = 4, **arguments: Any):
        super().__init__(history=history, horizon=horizon, network=network, **arguments)
        from airlam.models.comparators.registry import build_comparator  # which knows this class, too

        if network == self.kind:
            raise ValueError(f"network must be another kind than {self.kind!r}")
        self.inner = build_comparator(network, history=history + horizon, horizon=horizon, **arguments)
        self.arguments["network"] = self.inner.kind  # of a class path its kind: files name no code
        # not averaged forward and backward: that is for antennas and subcarriers, not for beams and delays
        self.start = EigenARPredictor(forward_backward=False)

    def check_shape(self, num_subcarriers: int, port_shape: PortShape) -> None:
        """See :class:`Comparator`."""
        self.inner.check_shape(num_subcarriers, port_shape)

    def correct(self, x: Tensor, port_shape: PortShape) -> Tensor:
        """See :class:`Comparator`. The filter takes any unitary basis, that of beams and delays as well."""
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            start = self.start.predict(x[..., None, :], self.horizon, port_shape=port_shape)[..., 0, :]
        return start - x[:, -1:] + self.inner.correct(torch.cat([x, start], 1), port_shape)
