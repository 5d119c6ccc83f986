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
    bounded,
    csi_of,
    noise_variance,
    put,
    stable_filter,
    strongest,
    take,
)
from airlam.baselines.wiener import WienerPredictor, spread
from airlam.csi import PortShape
from airlam.interfaces import any_scale, check_prediction_request


class KalmanPredictor:
    """Kalman filter on an AR state-space model whose parameters come from the history.

    Dynamics: one AR filter for the link, fitted by least squares over its strongest bins, poles kept within the
    unit circle. Process noise: ``process_noise`` times its residual, in proportion to each bin's power. (The part of
    the residual that measurement noise explains is left in on purpose: the common filter does not fit every bin, and
    taking it out made nearly every cell worse, by up to 3 dB.) Measurement noise: from the weakest bins. The state
    starts from the link's temporal covariance.

    Args:
        order: state length; lowered for short histories.
        ridge: loading of the fit.
        num_bins: strongest bins that are tracked; the others are predicted as zero. ``None``: all.
        fit_bins: strongest bins that the dynamics are fitted on: few, because noise biases AR fits towards damping.
        process_noise: multiple of the residual that drives the state; above 1 because one common filter fits no bin
            exactly.

    Example:
        >>> h_past = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> KalmanPredictor().predict(h_past, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    name = "kalman"

    def __init__(
        self,
        order: int = 12,
        ridge: float = 1e-4,
        num_bins: int | None = 512,
        *,
        fit_bins: int = 32,
        process_noise: float = 4.0,
    ):
        if not process_noise > 0:
            raise ValueError(f"process_noise must be positive, got {process_noise}")
        self.process_noise = process_noise
        if order < 1 or ridge < 0 or fit_bins < 1 or (num_bins is not None and num_bins < 1):
            raise ValueError(
                "order, num_bins, fit_bins >= 1 and ridge >= 0 are needed, "
                f"got {order}, {num_bins}, {fit_bins}, {ridge}"
            )
        self.order, self.ridge, self.num_bins, self.fit_bins = order, ridge, num_bins, fit_bins

    @any_scale
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :class:`airlam.interfaces.Predictor`."""
        return self.predict_with_variance(h_past, num_future, port_shape=port_shape, context=context)[0]

    @any_scale
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
        innovation = (self.process_noise * residual_ratio(fit, filters, noise)).clamp(1e-4, 1.0)
        start = WienerPredictor(num_bins=self.fit_bins).covariance(series, noise, 0, {})[..., :order, :order]
        bins = strongest(series, self.num_bins)
        kept = take(series, bins)
        future, variance = track(kept, filters, innovation, noise, start, num_future)
        untracked = (bin_energy(series) / series.shape[-1] - noise[..., None]).clamp(min=0)
        untracked = untracked[..., None].expand(*series.shape[:-1], num_future)
        axes = h_past.shape[-3:]
        future = csi_of(put(future, bins, series.new_zeros(*series.shape[:-1], num_future)), axes, shape)
        return future, spread(put(variance, bins, untracked), axes, shape)


def residual_ratio(series: Tensor, filters: Tensor, noise: Tensor) -> Tensor:
    """Variance of the filter's residual relative to the bins' signal power ``[...]``."""
    order = filters.shape[-1]
    if series.shape[-1] == 1:
        return torch.full_like(noise, 0.1)
    rows = series.unfold(-1, order, 1)[..., :-1, :]
    residual = series[..., order:] - (rows * filters[..., None, None, :]).sum(-1)
    variance = bin_energy(residual).mean(-1) / residual.shape[-1]
    power = (bin_energy(series).mean(-1) / series.shape[-1] - noise).clamp(min=TINY)
    return variance / power


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
    taps, drive = filters.unsqueeze(-2), innovation[..., None]  # the same for every bin

    def step(state: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
        # F P F^H + Q for a shift register F whose last row holds the taps: only the last row and column are new
        state = torch.cat([state[..., 1:], (taps * state).sum(-1, keepdim=True)], -1)
        row = (taps.unsqueeze(-2) @ covariance).squeeze(-2)
        corner = ((row * taps.conj()).sum(-1).real + drive).to(row.dtype)
        upper = torch.cat([covariance[..., 1:, 1:], row[..., 1:, None].conj()], -1)
        lower = torch.cat([row[..., 1:], corner.unsqueeze(-1)], -1)
        return state, torch.cat([upper, lower.unsqueeze(-2)], -2)

    # The state is the last `order` slots. Before the first slot it is unknown, with the link's own covariance.
    state = torch.zeros_like(x[..., :1]).expand(*x.shape[:-1], order)
    covariance = start.unsqueeze(-3).expand(*x.shape[:-1], order, order)
    for t in range(slots):
        if t > 0:
            state, covariance = step(state, covariance)
        gain = covariance[..., -1] / (covariance[..., -1, -1].real.clamp(min=0) + load).unsqueeze(-1)
        state = state + gain * (x[..., t] - state[..., -1]).unsqueeze(-1)
        covariance = covariance - gain.unsqueeze(-1) * covariance[..., -1:, :]
    future, variance = [], []
    for _ in range(num_future):
        state, covariance = step(state, covariance)
        future.append(state[..., -1])
        variance.append(covariance[..., -1, -1].real.clamp(min=0))
    value = bounded(torch.stack(future, -1) * scale.unsqueeze(-1), series)
    return value, torch.stack(variance, -1) * power.unsqueeze(-1)
