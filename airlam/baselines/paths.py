"""Prediction from paths: plane waves found in the history, each with a Doppler spread, extrapolated jointly.

A path that :mod:`airlam.baselines.path_fit` finds stands for a cluster of rays that no history of some slots tells
apart. So its series is no exponential but has a narrow Gaussian Doppler spectrum around one. All series together are
estimated and extrapolated by linear MMSE, their powers by sparse Bayesian learning (Tipping, JMLR 1, 2001): what cannot
be extrapolated is shrunk, and paths that are noise vanish.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from airlam.baselines.path_fit import PathFit, Search
from airlam.csi import PortShape
from airlam.interfaces import any_scale, check_prediction_request

CHUNK = 16  # links at a time: a spectrum of 200,000 bins each
ROUNDS = 3  # of learning powers
SLOTS_A_MODE = 40  # a series has three modes, and one more for every so many slots
OPTIMISM = 2.2  # of the posterior's variance, see PathPredictor.predict_with_variance
FLOOR = 0.011  # turns over the history: how well a shift is known at best


class PathPredictor:
    """Plane waves over slots, subcarriers and a uniform panel, as clusters with a Doppler spread.

    Args:
        spread: standard deviation of a cluster's Doppler spectrum, relative to the root mean square Doppler shift of
            the link's paths.
        threshold: of detection: how far a peak of the residual's spectrum stands above the spectrum's median.
        num_paths: of a link, at most.
        rounds: of detection, each followed by a joint refinement.

    Example:
        >>> h_past = torch.randn(2, 16, 12, 1, 8, dtype=torch.complex64)
        >>> PathPredictor().predict(h_past, 4, port_shape=(2, 2, 2)).shape
        torch.Size([2, 4, 12, 1, 8])
    """

    name = "paths"

    def __init__(self, spread: float = 0.14, *, threshold: float = 12.0, num_paths: int = 80, rounds: int = 14) -> None:
        if not (0 <= spread < 10 and threshold > 1 and num_paths >= 1 and rounds >= 1):
            raise ValueError(
                "spread from 0 to 10, threshold above 1, num_paths and rounds of at least 1 are needed, got "
                f"{spread}, {threshold}, {num_paths}, {rounds}"
            )
        self.spread, self.search = spread, Search(num_paths, threshold, rounds)

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

        The variance is the posterior's, the same for all entries of a slot, times 2.2: the posterior takes the shifts
        for known, and was 2 to 5 dB too small on UMa and UMi channels of 3 to 100 km/h.
        """
        shape = check_prediction_request(h_past, num_future, port_shape)
        links = h_past.reshape(-1, *h_past.shape[-4:])
        with torch.no_grad():
            parts = [self._predict(part, num_future, shape) for part in links.split(CHUNK)]
        lead = h_past.shape[:-4]
        future, variance = (torch.cat(part) for part in zip(*parts, strict=True))
        future, variance = future.reshape(*lead, *future.shape[1:]), variance.reshape(*lead, num_future, 1, 1, 1)
        return future, variance.expand(future.shape).clone()

    def _predict(self, h: Tensor, num_future: int, shape: PortShape) -> tuple[Tensor, Tensor]:
        scale = h.abs().square().mean((1, 2, 3, 4), keepdim=True).sqrt()
        x = torch.where(scale > 0, h / scale, 0)
        # [link, gain = (rx_ant, polarisation), slot, subcarrier, column, row]
        x = x.unflatten(-1, shape).permute(0, 3, 4, 1, 2, 5, 6).flatten(1, 2).contiguous()
        future, variance = extrapolate(PathFit.of(x, self.search), num_future, self.spread)
        future = future.unflatten(1, (h.shape[3], shape[0])).permute(0, 3, 4, 1, 2, 5, 6).flatten(-3)
        return future.to(h.dtype) * scale, variance.to(scale.dtype) * scale[:, :, 0, 0, 0].square()


def extrapolate(fit: PathFit, num_future: int, spread: float) -> tuple[Tensor, Tensor]:
    """The next slots ``[link, gain, slot, subcarrier, column, row]`` of paths as clusters, and the variance of an entry
    ``[link, slot]``."""
    links, paths = fit.live.shape
    if paths == 0:
        none = fit.x.new_zeros(links, fit.gains, num_future, *fit.sizes[1:])
        return none, none.real[:, 0, :, 0, 0, 0]
    slots, waves = fit.sizes[0], fit.exponentials(fit.shift)
    power = fit.gains_of(fit.shift)[1].abs().square().mean(-1).clamp_min(1e-6) * fit.live
    rms = ((power * fit.shift[..., 0].square()).sum(1) / power.sum(1).clamp_min(1e-12)).sqrt()
    width = ((spread * rms).square() + (FLOOR / slots) ** 2).sqrt()
    shapes = torch.stack([cluster_modes(slots, num_future, level(float(w))) for w in width]).to(power)
    times = torch.arange(slots + num_future, dtype=power.dtype, device=power.device) - (slots - 1) / 2
    turning = torch.exp(2j * math.pi * fit.shift[..., :1] * times)
    series = turning[:, :, None] * shapes.mT[:, None]  # [link, path, mode, slot]
    place = (waves[1].conj() @ waves[1].mT) * (waves[2].conj() @ waves[2].mT) * (waves[3].conj() @ waves[3].mT)
    modes = series.shape[2]
    place = torch.where(fit.both(), place, 0).repeat_interleave(modes, 1).repeat_interleave(modes, 2)
    weight, covariance = posterior(series[..., :slots], fit.series(waves), place, power, fit.noise)
    ahead = series[..., slots:]
    rows = ahead.flatten(1, 2)
    variance = (
        OPTIMISM * ((place.mT * covariance) @ rows.conj() * rows).sum(1).real.clamp_min(0) / math.prod(fit.sizes[1:])
    )
    return fit.over_space(torch.einsum("bkig,bkit->bkgt", weight, ahead), waves), variance


def posterior(past: Tensor, seen: Tensor, place: Tensor, power: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``[link, path, mode, gain]`` of the series ``past [link, path, mode, slot]``, and the covariance ``[link,
    path * mode, path * mode]`` of their errors.

    A weight has unit variance times the path's power; the powers are learned, from ``power [link, path]`` on.

    Args:
        seen: the data over slots, correlated with each path over all other axes, see :meth:`PathFit.series`.
        place: inner products of paths over all other axes, repeated for the modes. noise: ``[link]``, variance.
    """
    links, paths, modes, _ = past.shape
    live = power > 0
    rows = past.flatten(1, 2)
    noise = noise.clamp_min(1e-5)[:, None, None]
    gram = (rows.conj() @ rows.mT) * place / noise
    data = torch.einsum("bkgs,bkis->bkig", seen, past.conj()).flatten(1, 2) / noise
    one = torch.eye(paths * modes, dtype=gram.dtype, device=gram.device)
    for last in [False] * (ROUNDS - 1) + [True]:
        root = power.sqrt().repeat_interleave(modes, 1)
        factor = torch.linalg.cholesky(root[:, :, None] * gram * root[:, None] + one)
        unit = torch.cholesky_solve(root[..., None] * data, factor)  # of unit prior variance
        inverse = torch.cholesky_inverse(factor)
        if last:
            break
        grown = unit.abs().square().mean(-1) + inverse.diagonal(dim1=1, dim2=2).real
        power = (power * grown.view(links, paths, modes).mean(-1)).clamp_min(1e-9) * live
    weight = (root[..., None] * unit).view(links, paths, modes, -1)
    return weight, root[:, :, None] * inverse * root[:, None]


def level(width: float) -> float:
    """A width on a scale of steps of 10 %, so that few shapes are made."""
    return 1.1 ** round(math.log(width, 1.1))


@functools.lru_cache(maxsize=256)
def cluster_modes(slots: int, num_future: int, width: float) -> Tensor:
    """Shapes ``float64 [slot, mode]`` whose sum with independent weights of unit variance has unit power and a Gaussian
    Doppler spectrum with a standard deviation of ``width`` turns from slot to slot. Do not write to it."""
    with torch.inference_mode(False):
        times = torch.arange(slots + num_future, dtype=torch.float64)
        covariance = torch.exp(-0.5 * (2 * math.pi * width * (times[:, None] - times)) ** 2)
        energy, modes = torch.linalg.eigh(covariance)
        count = min(3 + len(times) // SLOTS_A_MODE, len(times), 12)
        energy, modes = energy.flip(0)[:count].clamp_min(0), modes.flip(1)[:, :count]
        return modes * (energy * len(times) / energy.sum()).sqrt()
