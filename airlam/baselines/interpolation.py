"""Classical estimates of hidden tones, antennas or slots from measured ones (:class:`airlam.interfaces.Estimator`).

All of them work along one axis. Least squares on a pilot of unit power gives the measured value itself, so the methods
differ only in how they estimate the samples between pilots.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from airlam.baselines.eigen_ar import Eigenbasis
from airlam.csi import PortShape, resolve_inputs, series_along, series_back
from airlam.interfaces import Estimator, Predictor, check_estimation_request, extreme_scale
from airlam.metrics import nmse, quantile


def along_axis(method: Callable) -> Callable:
    """Decorator: ``method(self, x, observed, port_shape, context)`` on series ``[link, sample, *, *, *]`` of one
    pattern ``bool [sample]`` becomes an ``estimate``. Links of extreme scale are scaled to unit peak before, and back
    after."""

    @resolve_inputs
    @functools.wraps(method)
    def estimate(
        self,
        h_measured: Tensor,
        observed: Tensor | None = None,
        *,
        axis: str = "slot",
        port_shape: PortShape | None = None,
        context: dict | None = None,
    ) -> Tensor:
        x, masks, fold = check_estimation_request(h_measured, observed, axis, port_shape)
        scale = extreme_scale(x)
        x = x if scale is None else x / scale
        out = torch.zeros_like(x)
        patterns, which = masks.unique(dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            index = (which == number).nonzero()[:, 0]
            side = {
                key: value[index] if isinstance(value, Tensor) and value.dim() and len(value) == len(x) else value
                for key, value in (context or {}).items()
            }
            out[index] = method(self, x[index], pattern, fold, side)
        out = out if scale is None else out * scale
        return series_back(out, axis, port_shape, h_measured.shape[-4:]).reshape(h_measured.shape)

    return estimate


class LinearInterpolator:
    """Least squares on the pilots, linear interpolation between them, the nearest pilot outside of them.

    Example:
        >>> h = torch.arange(5.0).to(torch.complex64)[None, :, None, None]
        >>> seen = torch.tensor([True, False, True, False, True])
        >>> LinearInterpolator().estimate(h, seen, axis="subcarrier")[0, :, 0, 0].real
        tensor([0., 1., 2., 3., 4.])
    """

    name = "linear"

    @along_axis
    def estimate(self, x: Tensor, observed: Tensor, port_shape: PortShape, context: dict) -> Tensor:
        """See :class:`airlam.interfaces.Estimator`."""
        sample = torch.arange(x.shape[1], device=x.device)
        places = observed.nonzero()[:, 0]
        right = torch.searchsorted(places, sample).clamp(max=len(places) - 1)
        left = (torch.searchsorted(places, sample, right=True) - 1).clamp(min=0)
        before, after = places[left], places[right]
        share = ((sample - before) / (after - before).clamp(min=1)).clamp(0, 1).to(x.real.dtype)
        share = share[None, :, None, None, None]
        return (1 - share) * x[:, before] + share * x[:, after]


class LMMSEInterpolator:
    r"""Linear MMSE estimate along one axis from a covariance: :math:`R_{to} (R_{oo} + noise\, I)^{-1} x_o`.

    Every antenna (tone, slot) alone; see :class:`EigenLMMSEInterpolator` for the stronger form.

    Args:
        covariance: ``complex [sample, sample]``, for example :func:`axis_covariance` of a training set; or None: taken
            from ``context["axis_covariance"]``, ``[link, sample, sample]``, which a genie fills.
        noise: variance of the noise relative to the mean power of the signal; to be tuned.
    """

    name = "lmmse"

    def __init__(self, covariance: Tensor | None = None, noise: float = 0.01):
        _check_noise(noise)
        self.covariance, self.noise = covariance, noise

    @along_axis
    def estimate(self, x: Tensor, observed: Tensor, port_shape: PortShape, context: dict) -> Tensor:
        """See :class:`airlam.interfaces.Estimator`."""
        r = self._covariance(x, observed, context)
        o = observed.nonzero()[:, 0]
        eye = torch.eye(len(o), dtype=r.dtype, device=r.device)
        weights = torch.linalg.solve(r[:, o][:, :, o] + (self.noise + 1e-9) * eye, r[:, :, o].mH).mH
        return torch.einsum("lno,lo...->ln...", weights.to(x.dtype).expand(len(x), -1, -1), x[:, o])

    def _covariance(self, x: Tensor, observed: Tensor, context: dict) -> Tensor:
        """``complex128 [link or 1, sample, sample]``, mean of the diagonal 1."""
        r = context.get("axis_covariance") if self.covariance is None else self.covariance[None]
        if r is None:
            raise ValueError("lmmse needs a covariance, or context['axis_covariance'] [link, sample, sample]")
        if r.shape[-2:] != (x.shape[1], x.shape[1]):
            raise ValueError(f"the covariance is {tuple(r.shape[-2:])}, but the axis has {x.shape[1]} samples")
        return unit_power(r.to(torch.complex128))


class EigenLMMSEInterpolator(LMMSEInterpolator):
    r"""LMMSE along the axis, in the link's own eigenbasis of everything else.

    The measured samples show which directions of the other axes (beams, slots) carry power. In that basis each mode is
    a series of power ``p`` of its own, filtered with :math:`R_{to} (R_{oo} + noise / p\, I)^{-1}`: weak modes, mostly
    noise, fade out. It differs from :class:`LMMSEInterpolator` as ``eigen-ar`` differs from ``ar``.

    Args:
        covariance, noise: as there.
    """

    name = "eigen-lmmse"

    @along_axis
    def estimate(self, x: Tensor, observed: Tensor, port_shape: PortShape, context: dict) -> Tensor:
        """See :class:`airlam.interfaces.Estimator`."""
        r = self._covariance(x, observed, context).expand(len(x), -1, -1)
        o = observed.nonzero()[:, 0]
        y = x[:, o]
        basis = Eigenbasis.of(y, port_shape[0])
        bins = basis.forward(y)
        power = (bins.real.square() + bins.imag.square()).mean(-1)
        noise = self.noise * power.mean(-1, keepdim=True)
        signal = (power - noise).clamp_min(1e-6 * power.mean(-1, keepdim=True) + 1e-30)
        values, vectors = torch.linalg.eigh(r[:, o][:, :, o])
        ratio = (noise / signal).double()[..., None] + 1e-9
        c = (bins.to(torch.complex128) @ vectors.conj()) / (values.clamp_min(0)[:, None] + ratio)
        series = c @ (r[:, :, o] @ vectors).mT
        return basis.inverse(series.to(x.dtype), x.shape[3])


class DelayInterpolator(LMMSEInterpolator):
    """DFT interpolation: all delays (or angles) in a window are taken as equally likely, all others as impossible.

    With a narrow window and no noise that is least squares on the window's delays.

    Args:
        width: of the window, cycles per sample; to be tuned.
        noise: as in :class:`LMMSEInterpolator`.
        centre: of the window, cycles per sample; None: ``-0.45 * width``, delays that are not negative.
    """

    name = "dft"

    def __init__(self, width: float = 0.2, noise: float = 0.01, centre: float | None = None):
        _check_noise(noise)
        if not 0 < width <= 1:
            raise ValueError(f"width must lie in (0, 1] cycles per sample, got {width}")
        self.width, self.noise, self.centre = width, noise, centre

    def _covariance(self, x: Tensor, observed: Tensor, context: dict) -> Tensor:
        lag = torch.arange(x.shape[1], dtype=torch.float64, device=x.device)
        lag = lag[:, None] - lag
        centre = -0.45 * self.width if self.centre is None else self.centre
        return torch.polar(torch.sinc(self.width * lag), 2 * math.pi * centre * lag)[None]


class PowerDelayInterpolator(LMMSEInterpolator):
    """LMMSE with the link's own sample covariance, by way of its power-delay profile.

    A comb contains only lags that are multiples of its step, so the covariance between pilots and other tones cannot be
    averaged from samples. It is computed from the profile, on the delays that the comb can distinguish: periodogram of
    the pilots, mean over everything else, less its floor.

    Args:
        floor: quantile of the profile that counts as noise; to be tuned.
        noise: as in :class:`LMMSEInterpolator`.
        causal: whether the spectrum is one of delays, which are not negative; False: it is centred at zero.
    """

    name = "lmmse-sample"

    def __init__(self, floor: float = 0.5, noise: float = 0.01, causal: bool = True):
        _check_noise(noise)
        if not 0 <= floor < 1:
            raise ValueError(f"floor must lie in [0, 1), got {floor}")
        self.floor, self.noise, self.causal = floor, noise, causal

    def _covariance(self, x: Tensor, observed: Tensor, context: dict) -> Tensor:
        o = observed.nonzero()[:, 0]
        step = int(torch.gcd(o.diff(), o.diff()[:1].expand(len(o) - 1)).min()) if len(o) > 1 else 1
        highest = (0.05 if self.causal else 0.5) / step
        nu = highest - torch.arange(4 * x.shape[1] // step, device=x.device, dtype=torch.float64) / (4 * x.shape[1])
        phase = torch.polar(torch.ones_like(nu), 2 * math.pi * nu)
        response = phase[:, None] ** o  # [delay, pilot]
        profile = (response.conj() @ x[:, o].flatten(2).to(torch.complex128)).abs().square().mean(-1)
        profile = (profile - quantile(profile, self.floor, keepdim=True)).clamp_min(0)
        profile = profile + 1e-6 * profile.mean(-1, keepdim=True) + 1e-30
        tones = phase[:, None] ** torch.arange(x.shape[1], device=x.device)
        return unit_power(torch.einsum("lg,ga,gb->lab", profile.to(tones.dtype), tones, tones.conj()))


class EigenPowerDelayInterpolator(PowerDelayInterpolator):
    """As :class:`EigenLMMSEInterpolator`, with the link's own profile, so that no training set is needed."""

    name = "eigen-lmmse-sample"
    estimate = EigenLMMSEInterpolator.estimate


class PredictorExtrapolator:
    """Any predictor along any axis: the measured samples must come first, the others are its future.

    Args:
        predictor: for example :class:`airlam.baselines.ARPredictor`: linear prediction over tones.
    """

    def __init__(self, predictor: Predictor):
        self.predictor, self.name = predictor, predictor.name

    @along_axis
    def estimate(self, x: Tensor, observed: Tensor, port_shape: PortShape, context: dict) -> Tensor:
        """See :class:`airlam.interfaces.Estimator`; measured samples are returned as they are."""
        count = int(observed.sum())
        if not bool(observed[:count].all()):
            raise ValueError(f"{self.name} extrapolates: the measured samples must be the first ones of the axis")
        if count == len(observed):
            return x
        future = self.predictor.predict(x[:, :count].contiguous(), len(observed) - count, port_shape=port_shape)
        return torch.cat([x[:, :count], future], 1)


@resolve_inputs
def axis_covariance(h: Tensor, axis: str, port_shape: PortShape | None = None) -> Tensor:
    """Sample covariance along an axis ``complex128 [sample, sample]``, mean over links (of unit power each) and over
    everything else; mean of the diagonal 1.

    Args:
        h: true CSI of a training set ``[link, slot, subcarrier, rx_ant, tx_ant]``.

    Example:
        >>> h = torch.ones(3, 1, 4, 1, 2, dtype=torch.complex64)
        >>> axis_covariance(h, "subcarrier").shape
        torch.Size([4, 4])
    """
    x = series_along(h, axis, port_shape)[0].flatten(2).to(torch.complex128)
    x = x / x.abs().square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-30)
    r = torch.einsum("lna,lma->nm", x, x.conj())
    return r / r.diagonal().real.mean()


def ray_covariance(
    rays: Any, axis: str, length: int, *, port_shape: PortShape, slot_duration: float, subcarrier_spacing: float
) -> Tensor:
    """Covariance along an axis of each link from its own rays ``complex128 [link, sample, sample]``: no receiver knows
    it. For ``context["axis_covariance"]`` of :class:`LMMSEInterpolator`.

    Args:
        rays: see :class:`airlam.baselines.genie.RaysLike`.
        axis: ``"slot"``, ``"subcarrier"`` or ``"column"``.
        length: samples of the axis.
    """
    power = rays.power.double().clamp_min(0)
    array = rays.array.to(torch.complex128)
    if axis == "column":
        a = array.unflatten(-1, (-1, *port_shape)).movedim(-2, 2).flatten(3)  # link, atom, column, others
        return torch.einsum("lr,lrca,lrda->lcd", power.to(a.dtype), a, a.conj())
    turn = rays.doppler.double() * slot_duration if axis == "slot" else -rays.delay.double() * subcarrier_spacing
    angle = 2 * math.pi * turn[..., None] * torch.arange(length, dtype=torch.float64, device=turn.device)
    response = torch.polar(torch.ones_like(angle), angle)
    weight = (power * array.abs().square().sum(-1)).to(response.dtype)
    return torch.einsum("lr,lra,lrb->lab", weight, response, response.conj())


@resolve_inputs
def tune_estimator(
    build: Callable[..., Estimator],
    grid: Mapping[str, Sequence[Any]],
    h_measured: Tensor,
    h: Tensor,
    observed: Tensor,
    wanted: Tensor,
    *,
    axis: str,
    port_shape: PortShape | None = None,
    context: dict | None = None,
) -> dict[str, Any]:
    """Best arguments of an estimator by NMSE (mean per link) of the wanted samples, over the whole grid.

    Args:
        build: makes the estimator from keyword arguments.
        grid: values of each argument.
        h_measured, h: measured and *true* CSI of validation links, of drops that no figure is computed on.
        observed, wanted: ``bool [sample]``.

    Returns:
        keyword arguments of the best one.
    """

    def score(arguments: dict[str, Any]) -> float:
        estimate = build(**arguments).estimate(h_measured, observed, axis=axis, port_shape=port_shape, context=context)
        return float(nmse(*(series_along(x, axis, port_shape)[0][:, wanted] for x in (estimate, h))))

    return min((dict(zip(grid, values, strict=True)) for values in product(*grid.values())), key=score)


def unit_power(r: Tensor) -> Tensor:
    """Covariances ``[link, sample, sample]`` whose diagonals have mean 1."""
    return r / r.diagonal(dim1=-2, dim2=-1).real.mean(-1)[:, None, None].clamp_min(1e-30)


def _check_noise(noise: float) -> None:
    if not noise >= 0 or not math.isfinite(noise):
        raise ValueError(f"noise must be finite and not negative (relative to the signal power), got {noise}")
