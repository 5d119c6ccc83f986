"""Prediction from paths: plane waves found in the history, each with spreads, extrapolated jointly.

:mod:`airlam.baselines.path_fit` finds the paths; :mod:`airlam.baselines.path_series` estimates and extrapolates their
series. Powers may be learned by expectation maximisation (sparse Bayesian learning: Tipping, JMLR 1, 2001).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from airlam.baselines.path_fit import Search
from airlam.baselines.path_memory import CHUNK, recall
from airlam.baselines.path_receiver import (
    COARSE,
    aligned,
    by_panel,
    left_of_variance,
    mean_of_views,
    port_gains,
    shortened,
)
from airlam.baselines.path_series import Paths, Posterior, Statistics, as_panel
from airlam.csi import PortShape
from airlam.interfaces import any_scale, check_observed, check_prediction_request

SPREAD = 0.14  # see PathPredictor
FLOOR = 0.011  # turns over the history: how well a shift is known at best
MIXED = 0.1  # turns over the history: spread of what one path stands for where neither delay nor direction tells apart
SLOPES = (0.007, 0.018, 0.007)  # power of slopes along subcarriers, columns, rows over the path's
ATOMS = 384  # of a link, at most


class PathPredictor:
    """Plane waves over slots, subcarriers and a uniform panel, as clusters spread in Doppler shift, delay, direction.

    Args:
        spread: standard deviation of a cluster's Doppler spectrum, relative to the root mean square Doppler shift of
            the link's paths.
        slopes: power of the slopes that stand for spreads in delay and direction, relative to 0.7 % of a path's power
            along subcarriers and rows, 1.8 % along columns.
        threshold: of detection: how far a peak of the residual's spectrum stands above the spectrum's median.
        num_paths: of a link, at most.
        rounds: of detection, each followed by a joint refinement.
        align: how often, up to three times, the slots are aligned before, in phase and timing, each with what the
            strongest paths say of it: against phase noise and jitter of a receiver. Harmful where there is none.
        calibrate: how often, up to three times, each port gets a gain and a phase from what the strongest paths say of
            it: for arrays with errors. Costs a few tenths of a decibel where there are none.
        views: from how many histories, each two slots shorter than the one before, predictions are averaged: their
            errors differ. Two are some tenths of a decibel better and take twice the time. Histories keep at least
            three quarters of the measured slots.
        learn: how often the powers are learned from the estimate. Once takes a tenth longer and is 0.05 dB better, more
            often brings nothing.

    Example:
        >>> h_past = torch.randn(2, 16, 12, 1, 8, dtype=torch.complex64)
        >>> PathPredictor().predict(h_past, 4, port_shape=(2, 2, 2)).shape
        torch.Size([2, 4, 12, 1, 8])
    """

    name = "paths"

    def __init__(
        self,
        spread: float = SPREAD,
        *,
        slopes: float = 1.0,
        threshold: float = 12.0,
        num_paths: int = 80,
        rounds: int = 14,
        align: int = 0,
        calibrate: int = 0,
        learn: int = 0,
        views: int = 1,
    ) -> None:
        if not (0 <= spread < 10 and 0 <= slopes < 1e3 and threshold > 1 and num_paths >= 1 and rounds >= 1):
            raise ValueError(
                "spread from 0 to 10, slopes from 0 to 1000, threshold above 1, num_paths and rounds of at least 1 are "
                f"needed, got {spread}, {slopes}, {threshold}, {num_paths}, {rounds}"
            )
        few = len(COARSE)
        given = (("learn", learn, 0, 100), ("align", align, 0, few), ("calibrate", calibrate, 0, few))
        for label, value, least, most in (*given, ("views", views, 1, 16)):
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"{label}: a whole number from {least} to {most} is needed, got {value!r}")
        self.views = views
        self.spread, self.slopes, self.align, self.calibrate, self.learn = spread, slopes, align, calibrate, learn
        self.search = Search(num_paths, threshold, rounds)

    @any_scale
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :class:`airlam.interfaces.Predictor`; ``context`` may hold ``observed``, ``bool [..., slot]``: False
        where a slot was not measured."""
        return self.predict_with_variance(h_past, num_future, port_shape=port_shape, context=context)[0]

    @any_scale
    def predict_with_variance(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> tuple[Tensor, Tensor]:
        """Prediction and the variance of its error, real, same shape: the posterior's, the same for all entries of a
        slot."""
        observed = check_observed(h_past, context)
        shape = check_prediction_request(h_past, num_future, port_shape)
        links = h_past.reshape(-1, *h_past.shape[-4:])
        masks = [None] * len(links) if observed is None else observed.split(CHUNK)
        with torch.no_grad():
            chunks = zip(links.split(CHUNK), masks, strict=False)
            parts = [self._predict(part, num_future, shape, mask) for part, mask in chunks]
        lead = h_past.shape[:-4]
        future, variance = (torch.cat(part) for part in zip(*parts, strict=True))
        future, variance = future.reshape(*lead, *future.shape[1:]), variance.reshape(*lead, num_future, 1, 1, 1)
        return future, variance.expand(future.shape).clone()

    def _predict(self, h: Tensor, num_future: int, shape: PortShape, observed: Tensor | None) -> tuple[Tensor, Tensor]:
        power = h.abs().square().mean((2, 3, 4), keepdim=True)
        seen = torch.ones_like(power) if observed is None else observed[:, :, None, None, None].to(power.dtype)
        scale = ((power * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True)).sqrt()
        h = torch.where(scale > 0, h / scale, 0)
        future, variance = h.new_zeros(len(h), num_future, *h.shape[2:]), power.new_zeros(len(h), num_future)
        for group, panel in by_panel(h, shape, observed):
            mask = None if observed is None else observed[group]
            future[group], variance[group] = self._of_panel(h[group], num_future, panel, mask)
        return future * scale, variance * scale[:, :, 0, 0, 0].square()

    def _of_panel(self, h: Tensor, num_future: int, shape: PortShape, observed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Prediction and the variance of its error ``[link, slot]``, of histories of unit power."""
        for most in COARSE[: self.align]:
            h = aligned(h, shape, observed, most)
        ports = torch.ones_like(h[:, :1, :1])
        for most in COARSE[: self.calibrate]:
            ports = ports * port_gains(h / ports, shape, observed, most)
        parts, weights = [], []
        for history, mask, weight in shortened(h / ports, observed, self.views):
            paths = recall(as_panel(history, shape), self.search, mask)
            posterior = extrapolated(paths, num_future, self.spread, self.slopes, self.learn)
            future = posterior.paths.synthesise(posterior.series().to(h.dtype), h.shape[3])
            parts.append((future, posterior.variance().to(h.real.dtype)))
            weights.append(weight)
        future, variance = (mean_of_views(part, weights) for part in zip(*parts, strict=True))
        return future * ports, variance * left_of_variance(weights)[:, None]


def extrapolated(
    paths: Paths,
    num_future: int,
    spread: float = SPREAD,
    slopes: float = 1.0,
    learn: int = 0,
    weakest: float = 0.0,
) -> Posterior:
    """Paths as clusters; the arguments are those of :class:`PathPredictor` and of :meth:`Posterior.of`."""
    power, _, width = start(paths, spread)
    levels = power.new_tensor([1.0, *(slopes * level for level in SLOPES)])
    power = power[:, None] * levels[:, None]
    doppler, noise = paths.shift[..., 0], paths.noise
    for last in [False] * learn + [True]:
        statistics = Statistics(power, doppler, width[:, None].expand_as(doppler), noise)
        posterior = Posterior.of(paths, statistics, num_future, ATOMS, weakest)
        if not last:
            power = power * posterior.growth()
    return posterior


def start(paths: Paths, spread: float) -> tuple[Tensor, Tensor, Tensor]:
    """Powers of the paths by least squares ``[link, path]``; of each link ``[link]`` the root mean square Doppler
    shift, and the Doppler spread of its paths."""
    power = paths.gains[0].abs().square().mean(-1).clamp_min(1e-9) * paths.live
    rms = ((power * paths.shift[..., 0].square()).sum(1) / power.sum(1).clamp_min(1e-12)).sqrt()
    least = max(FLOOR, MIXED / math.sqrt(math.prod(paths.sizes[1:])))
    return power, rms, ((spread * rms).square() + (least / paths.sizes[0]) ** 2).sqrt()
