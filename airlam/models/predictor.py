"""An :class:`AirlamModel` behind the interface of every predictor."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi import PortShape
from airlam.interfaces import check_prediction_request
from airlam.models.airlam_model import AirlamModel


class AirlamPredictor:
    """Channel prediction by an :class:`AirlamModel`.

    Args:
        model: the model, or the same adapted by :func:`airlam.models.add_lora`.
        name: of the row in tables.
        correction: False leaves only the classical start; what the network adds is the difference.
        chunk: links per forward pass, bounds the memory.

    Example:
        >>> from airlam.models import AirlamConfig, AirlamModel
        >>> predictor = AirlamPredictor(AirlamModel(AirlamConfig(num_tokens=16, num_groups=0)))
        >>> predictor.predict(torch.randn(16, 12, 1, 4, dtype=torch.complex64), 4).shape
        torch.Size([4, 12, 1, 4])
    """

    def __init__(self, model: AirlamModel, name: str = "airlam", *, correction: bool = True, chunk: int = 64):
        self.model, self.name, self.correction, self.chunk = model.eval(), name, correction, chunk

    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :meth:`airlam.interfaces.Predictor.predict`. Computes in single precision."""
        shape = check_prediction_request(h_past, num_future, port_shape)
        h = h_past.to(torch.complex64).reshape(-1, *h_past.shape[-4:])
        with torch.inference_mode():
            parts = [
                self.model(part, num_future, port_shape=shape, correction=self.correction)
                for part in h.split(self.chunk)
            ]
        out = torch.cat(parts) if parts else h.new_zeros(0, num_future, *h.shape[-3:])
        return out.reshape(*h_past.shape[:-4], *out.shape[1:]).to(h_past.dtype)
