"""Kalman prediction: an autoregressive state per beam-delay bin, tracked through the noisy history."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from airlam.baselines.ar import ar_filters, effective_order
from airlam.baselines.bins import (
    TINY,
    bin_energy,
    bin_series,
    csi_of,
    noise_variance,
    put,
    stable_filter,
    strongest,
    take,
)
from airlam.baselines.wiener import WienerPredictor, spread
from airlam.csi import PortShape
from airlam.interfaces import check_prediction_request


class KalmanPredictor:
    """Kalman filter on an AR state-space model whose parameters come from the history.

    Dynamics: one AR filter for the link, fitted by least squares over its strongest bins, poles kept within the
    unit circle. Process noise: its residual, less what the measurement noise explains, in proportion to each bin's
    power. Measurement noise: from the weakest bins. The state starts from the link's temporal covariance.

    Args:
        order: state length; lowered for short histories.
        ridge: loading of the fit.
        num_bins: strongest bins that are tracked; the others are predicted as zero. ``None``: all.
        fit_bins: strongest bins that the dynamics are fitted on: few, because noise biases AR fits towards damping.

    Example:
        >>> h_past = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> KalmanPredictor().predict(h_past, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    name = "kalman"

    def __init__(self, order: int = 8, ridge: float = 1e-4, num_bins: int | None = 512, *, fit_bins: int = 128):
        if order < 1 or ridge < 0 or fit_bins < 1 or (num_bins is not None and num_bins < 1):
            raise ValueError(
                "order, num_bins, fit_bins >= 1 and ridge >= 0 are needed, "
                f"got {order}, {num_bins}, {fit_bins}, {ridge}"
            )
        self.order, self.ridge, self.num_bins, self.fit_bins = order, ridge, num_bins, fit_bins

    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :class:`airlam.interfaces.Predictor`."""
        return self.predict_with_variance(h_past, num_future, port_shape=port_shape, context=context)[0]

    def predict_with_variance(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> tuple[Tensor, Tensor]:
        """Prediction and the variance of its error, real, same shape; see :class:`WienerPredictor`."""
        shape = check_prediction_request(h_past, num_future, port_shape)
        series = bin_series(h_past, shape)
        noise = noise_variance(series)
        fit = take(series, strongest(series, self.fit_bins))
        order = effective_order(self.order, series.shape[-1])
        filters = stable_filter(ar_filters(fit, order, self.ridge, math.inf).pooled)
        innovation = innovation_ratio(fit, filters, noise)
        start = WienerPredictor(num_bins=self.fit_bins).covariance(series, noise, 0, {})[..., :order, :order]
        bins = strongest(series, self.num_bins)
        kept = take(series, bins)
        future, variance = track(kept, filters, innovation, noise, start, num_future)
        untracked = (bin_energy(series) / series.shape[-1])[..., None].expand(*series.shape[:-1], num_future)
        axes = h_past.shape[-3:]
        future = csi_of(put(future, bins, series.new_zeros(*series.shape[:-1], num_future)), axes, shape)
        return future, spread(put(variance, bins, untracked), axes, shape)


def innovation_ratio(series: Tensor, filters: Tensor, noise: Tensor) -> Tensor:
    """Process-noise variance relative to a bin's signal power ``[...]``, from the filter's residual."""
    order = filters.shape[-1]
    if series.shape[-1] == 1:
        return torch.full_like(noise, 0.1)
    rows = series.unfold(-1, order, 1)[..., :-1, :]
    residual = series[..., order:] - (rows * filters[..., None, None, :]).sum(-1)
    variance = bin_energy(residual).mean(-1) / residual.shape[-1]
    explained = noise * (1 + filters.abs().square().sum(-1))
    power = (bin_energy(series).mean(-1) / series.shape[-1] - noise).clamp(min=TINY)
    return ((variance - explained) / power).clamp(min=1e-4, max=1.0)


def track(
    series: Tensor, filters: Tensor, innovation: Tensor, noise: Tensor, start: Tensor, num_future: int
) -> tuple[Tensor, Tensor]:
    """Kalman filter of every bin over the history, then prediction.

    States are scaled to unit signal power, so that the covariance recursion is well conditioned for every bin.

    Args:
        series: ``complex [..., bin, slot]``.
        filters: ``[..., order]``; innovation, noise: ``[...]``; start: state covariance ``[..., order, order]``.

    Returns:
        prediction and error variance, ``[..., bin, num_future]``.
    """
    order, slots = filters.shape[-1], series.shape[-1]
    power = (bin_energy(series) / slots - noise[..., None]).clamp(min=TINY)
    scale = power.sqrt()
    x = series / scale.unsqueeze(-1)
    load = noise[..., None] / power + 1e-6  # measurement noise relative to the bin's power; single precision needs some
    dynamics = torch.zeros(*filters.shape, order, dtype=filters.dtype, device=filters.device)
    dynamics[..., :-1, 1:] = torch.eye(order - 1, dtype=filters.dtype, device=filters.device)
    dynamics[..., -1, :] = filters
    dynamics = dynamics.unsqueeze(-3)  # the same for every bin
    drive = torch.zeros_like(dynamics)
    drive[..., -1, -1] = innovation[..., None].to(drive.dtype)

    # The state is the last `order` slots. Before the first slot it is unknown, with the link's own covariance.
    state = torch.zeros_like(x[..., :1]).expand(*x.shape[:-1], order).unsqueeze(-1)
    covariance = start.unsqueeze(-3).expand(*x.shape[:-1], order, order)
    for t in range(slots):
        if t > 0:
            state = dynamics @ state
            covariance = dynamics @ covariance @ dynamics.mH + drive
        gain = covariance[..., -1:] / (covariance[..., -1, -1].real.clamp(min=0) + load)[..., None, None]
        state = state + gain * (x[..., t, None, None] - state[..., -1:, :])
        covariance = covariance - gain @ covariance[..., -1:, :]
        covariance = (covariance + covariance.mH) / 2
    future, variance = [], []
    for _ in range(num_future):
        state = dynamics @ state
        covariance = dynamics @ covariance @ dynamics.mH + drive
        future.append(state[..., -1, 0])
        variance.append(covariance[..., -1, -1].real.clamp(min=0))
    return torch.stack(future, -1) * scale.unsqueeze(-1), torch.stack(variance, -1) * power.unsqueeze(-1)
