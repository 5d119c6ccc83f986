"""The mean of the history, with exponential forgetting; and the share of it that other predictors set aside."""

from __future__ import annotations

from torch import Tensor

from airlam.csi import PortShape
from airlam.interfaces import any_scale, check_prediction_request


class MeanPredictor:
    """Predict every future slot as the exponentially weighted mean of the history::

        h_hat[T + s] = sum_t f^(T - 1 - t) h[t] / sum_t f^(T - 1 - t),    t = 0 ... T - 1, s = 0, 1, ...

    It averages noise, phase jitter and quantisation, and follows no motion: hard to beat for a receiver that stands
    still, useless for one that moves by a fraction of a wavelength within the history.

    Args:
        forgetting: ``f`` in [0, 1]; 1: the plain mean, 0: the last slot, as
            :class:`~airlam.baselines.hold.HoldPredictor`.

    Example:
        >>> import torch
        >>> h_past = torch.tensor([1.0, 3.0, 5.0], dtype=torch.complex64).reshape(3, 1, 1, 1)
        >>> MeanPredictor().predict(h_past, 2).real.flatten().tolist()
        [3.0, 3.0]
        >>> MeanPredictor(forgetting=0.0).predict(h_past, 1).real.flatten().tolist()
        [5.0]
    """

    name = "mean"

    def __init__(self, forgetting: float = 1.0):
        if not 0 <= forgetting <= 1:
            raise ValueError(f"forgetting must lie in [0, 1], got {forgetting}")
        self.forgetting = forgetting

    @any_scale
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :class:`airlam.interfaces.Predictor`."""
        check_prediction_request(h_past, num_future, port_shape)
        age = range(h_past.shape[-4] - 1, -1, -1)
        weights = h_past.real.new_tensor([self.forgetting**slots for slots in age])  # 0 ** 0 = 1: the last slot
        weights = (weights / weights.sum())[:, None, None, None]
        mean = (weights * h_past).sum(-4, keepdim=True)
        return mean.expand(*mean.shape[:-4], num_future, *mean.shape[-3:]).clone()


def check_mean_share(mean_share: float) -> float:
    """``mean_share`` itself if it lies in [0, 1]."""
    if not 0 <= mean_share <= 1:
        raise ValueError(f"mean_share must lie in [0, 1], got {mean_share}")
    return mean_share
