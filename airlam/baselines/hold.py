"""The last measured slot, held."""

from __future__ import annotations

from torch import Tensor

from airlam.csi import PortShape, resolve_inputs
from airlam.interfaces import check_prediction_request


class HoldPredictor:
    """Repeat the last measured slot, as a system without prediction does.

    Example:
        >>> import torch
        >>> h_past = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> bool((HoldPredictor().predict(h_past, 4) == h_past[:, -1:]).all())
        True
    """

    name = "hold"

    @resolve_inputs
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :class:`airlam.interfaces.Predictor`."""
        check_prediction_request(h_past, num_future, port_shape)
        last = h_past[..., -1:, :, :, :]
        return last.expand(*last.shape[:-4], num_future, *last.shape[-3:]).clone()
