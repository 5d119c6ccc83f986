"""Wiener prediction: LMMSE over the history's slots, bin by bin, from a temporal covariance of the link."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from airlam.baselines.bins import TINY, bin_energy, bin_series, bounded, csi_of, noise_variance, strongest, take
from airlam.constants import SPEED_OF_LIGHT
from airlam.csi import PortShape
from airlam.interfaces import any_scale, check_prediction_request


class WienerPredictor:
    r"""LMMSE prediction with the link's temporal covariance, estimated from the history itself.

    All bins share one normalised autocovariance (one Doppler spectrum), averaged over the strongest bins and
    projected onto positive semidefinite matrices; each bin has its own signal-to-noise ratio, so weak bins fade out
    by themselves: :math:`\hat x = S_{fp}(S_{pp} + (\sigma^2/P_b + ridge) I)^{-1} x`.
    Horizons longer than ``slots - order`` continue from the predictions. Amplitudes are bounded by 1.5 times the
    largest one of the bin's history, for histories far from stationary.

    Args:
        order: slots that the filter sees; lowered for short histories.
        ridge: loading relative to the signal power.
        num_bins: strongest bins that the covariance is estimated from (prediction covers all bins); ``None``: all.

    Example:
        >>> h_past = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> WienerPredictor().predict(h_past, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    name = "wiener"

    def __init__(self, order: int = 12, ridge: float = 1e-3, num_bins: int | None = 256):
        if order < 1 or ridge < 0 or (num_bins is not None and num_bins < 1):
            raise ValueError(f"order, num_bins >= 1 and ridge >= 0 are needed, got {order}, {num_bins}, {ridge}")
        self.order, self.ridge, self.num_bins = order, ridge, num_bins

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
        """Prediction and the variance of its error, real, same shape.

        The transform to beam-delay bins is unitary, so the variance of a bin spreads evenly over subcarriers and over
        the ports of one polarisation.
        """
        shape = check_prediction_request(h_past, num_future, port_shape)
        series = bin_series(h_past, shape)
        noise = noise_variance(series)
        covariance = self.covariance(series, noise, num_future, context or {})
        future, variance = lmmse_rollout(series, covariance, noise, self.order, self.ridge, num_future)
        axes = h_past.shape[-3:]
        return csi_of(future, axes, shape), spread(variance, axes, shape)

    def covariance(self, series: Tensor, noise: Tensor, num_future: int, context: dict) -> Tensor:
        """Normalised temporal covariance of the signal, Toeplitz and positive semidefinite: ``[..., slot, slot]``."""
        kept = take(series, strongest(series, self.num_bins))
        slots = kept.shape[-1]
        spectrum = torch.fft.fft(kept, n=2 * slots, dim=-1)  # zero-padded: linear, not circular, correlation
        lags = torch.fft.ifft((spectrum.real.square() + spectrum.imag.square()).mean(-2), dim=-1)[..., :slots]
        lags = lags / torch.arange(slots, 0, -1, device=lags.device)
        lags[..., 0] = (lags[..., 0].real - noise).clamp(min=TINY).to(lags.dtype)
        return normalised_toeplitz(lags)


class JakesWienerPredictor(WienerPredictor):
    """LMMSE prediction with Clarke's Doppler spectrum of the known speed: covariance ``J0(2 pi f_d tau)``.

    Needs ``context`` with ``speed`` [m/s] (one value or one per link), ``slot_duration`` [s] and
    ``carrier_frequency`` [Hz].
    """

    name = "jakes-wiener"

    def covariance(self, series: Tensor, noise: Tensor, num_future: int, context: dict) -> Tensor:
        """See :meth:`WienerPredictor.covariance`."""
        missing = {"speed", "slot_duration", "carrier_frequency"} - set(context)
        if missing:
            raise ValueError(f"jakes-wiener needs {', '.join(sorted(missing))} in context")
        speed = torch.as_tensor(context["speed"], dtype=torch.float64, device=series.device)
        phase = 2 * math.pi * speed * context["carrier_frequency"] / SPEED_OF_LIGHT * context["slot_duration"]
        length = series.shape[-1] + num_future
        lags = torch.special.bessel_j0(phase[..., None] * torch.arange(length, device=series.device))
        lags = lags.expand(*series.shape[:-2], length).to(series.dtype)
        return toeplitz(lags)


def toeplitz(lags: Tensor) -> Tensor:
    """Hermitian Toeplitz matrix ``[..., n, n]`` with entry (i, j) = ``lags[i - j]``, from lags 0 .. n-1."""
    n = lags.shape[-1]
    both = torch.cat([lags[..., 1:].conj().flip(-1), lags], -1)
    index = torch.arange(n, device=lags.device)
    return both[..., index[:, None] - index[None, :] + n - 1]


def normalised_toeplitz(lags: Tensor) -> Tensor:
    """:func:`toeplitz`, negative eigenvalues removed, unit mean diagonal. All-zero lags give the identity."""
    values, vectors = torch.linalg.eigh(toeplitz(lags / lags[..., :1].abs().clamp(min=TINY)))
    matrix = (vectors * values.clamp(min=0).unsqueeze(-2)) @ vectors.mH
    return matrix / matrix.diagonal(dim1=-2, dim2=-1).real.mean(-1).clamp(min=1e-6)[..., None, None]


def lmmse_rollout(
    series: Tensor, covariance: Tensor, noise: Tensor, order: int, ridge: float, num_future: int
) -> tuple[Tensor, Tensor]:
    """LMMSE prediction of each bin from its last ``order`` slots.

    Args:
        series: ``complex [..., bin, slot]``.
        covariance: normalised covariance of the signal ``[..., n, n]`` over ``n`` successive slots; one filter
            reaches ``n - order`` slots ahead, further ones start from what was predicted.
        noise: variance ``[...]``.

    Returns:
        prediction ``[..., bin, num_future]`` and error variance, real, of the same shape.
    """
    slots = series.shape[-1]
    order = min(order, slots, max(1, covariance.shape[-1] - 1))
    if covariance.shape[-1] <= order:  # a single slot tells nothing about time: hold
        return series[..., -1:].expand(*series.shape[:-1], num_future), bin_energy(series)[..., None].expand(
            *series.shape[:-1], num_future
        )
    if covariance.shape[-1] <= slots:  # lags learned from the history: keep a quarter of them for the horizon
        order = min(order, max(1, 3 * slots // 4))
    reach = min(num_future, covariance.shape[-1] - order)
    power = (bin_energy(series) / slots - noise[..., None]).clamp(min=TINY)
    past, ahead = covariance[..., :order, :order], covariance[..., order : order + reach, :order]
    values, vectors = torch.linalg.eigh(past)
    load = noise[..., None] / power + ridge + 1e-6
    gain = 1 / (values.clamp(min=0).unsqueeze(-2) + load.unsqueeze(-1))  # [..., bin, order]
    forward = ahead @ vectors  # [..., reach, order]
    explained = (gain @ (forward.real.square() + forward.imag.square()).mT).clamp(max=1.0)  # [..., bin, reach]
    variance = power.unsqueeze(-1) * (1 - explained)
    window, future, spread_ahead = series[..., -order:], [], []
    while sum(block.shape[-1] for block in future) < num_future:
        block = bounded(((window @ vectors.conj()) * gain) @ forward.mT, series)
        future.append(block)
        # a rough account for later blocks: errors add up, never beyond the bin's own power
        variance = torch.minimum(variance * len(future), power.unsqueeze(-1))
        spread_ahead.append(variance)
        window = torch.cat([window, block], -1)[..., -order:]
    return torch.cat(future, -1)[..., :num_future], torch.cat(spread_ahead, -1)[..., :num_future]


def spread(variance: Tensor, axes: torch.Size | tuple[int, int, int], port_shape: PortShape) -> Tensor:
    """Variance of bins ``[..., bin, slot]`` -> of CSI entries ``[..., slot, subcarrier, rx_ant, tx_ant]``.

    Errors of different bins count as uncorrelated; a DFT then gives every subcarrier and every port of one
    polarisation the mean of its bins.
    """
    x = variance.mT.unflatten(-1, tuple(axes)).unflatten(-1, port_shape)
    return x.mean((-5, -2, -1), keepdim=True).expand(x.shape).flatten(-3)
