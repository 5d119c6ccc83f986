"""Tokens of the backbone: what a link's history looks like to the network, and the way back to CSI."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from airlam.baselines.eigen_ar import Eigenbasis, class_filters, place, roll_out, strongest
from airlam.models.config import AirlamConfig
from airlam.models.context import Readings
from airlam.models.doppler import periodogram
from airlam.models.views import view_basis

START_SLOTS = 4  # slots of the start's prediction that a token shows to the network
NUM_SCALARS = 10  # see make_tokens


@dataclass
class Tokens:
    """One batch of links as tokens. ``bin`` counts the kept coefficients, strongest first: those of the single tokens,
    then those of the groups.

    Attributes:
        features: ``[link, token, feature]``, real.
        log_periodogram: ``[link, token, grid]``.
        noise: ``[link, token]``, rough noise variance of a sample of the token's series.
        series: ``complex [link, bin, slot]``, each of unit mean power over its observed slots.
        scale: ``[link, bin, 1]``: coefficients = scale * series.
        start: ``complex [link, bin, slot]``, the classical prediction in units of the coefficients.
        taps: its filters, ``complex [link, bin, order]``.
        singles, group_size: number of single tokens, and of coefficients in a group.
        basis, index: how to get back to CSI.
        power: ``[link, coefficient]``, mean power of all coefficients of the link over the observed slots.
        readings: of other sensors; ``None``: none.
        hidden: the backbone's output, where it was computed elsewhere (:mod:`airlam.models.split`).
    """

    features: Tensor
    log_periodogram: Tensor
    noise: Tensor
    series: Tensor
    scale: Tensor
    start: Tensor | None
    taps: Tensor | None
    singles: int
    group_size: int
    basis: Eigenbasis
    index: Tensor
    power: Tensor
    readings: Readings | None = None
    hidden: Tensor | None = None

    def per_bin(self, x: Tensor) -> Tensor:
        """``[link, token, ...]`` -> ``[link, bin, ...]``: each member of a group gets its group's value."""
        return torch.cat([x[:, : self.singles], x[:, self.singles :].repeat_interleave(self.group_size, 1)], 1)

    def per_token(self, x: Tensor) -> Tensor:
        """``[link, bin, ...]`` -> ``[link, token, ...]``: the single ones, and the mean of each group."""
        return means_of_groups(x, self.singles, self.group_size)

    def bin_of(self, token: int) -> int:
        """The first bin of a token."""
        return token if token <= self.singles else self.singles + (token - self.singles) * self.group_size

    def part(self, links: slice, first: int, stop: int) -> Tokens:
        """Some of the links, and of those the tokens ``first <= t < stop``. Such a part cannot go back to CSI."""
        begin, end = self.bin_of(first), self.bin_of(stop)

        def by_bin(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[links, begin:end]

        return replace(
            self,
            features=self.features[links, first:stop],
            log_periodogram=self.log_periodogram[links, first:stop],
            noise=self.noise[links, first:stop],
            series=self.series[links, begin:end],
            scale=self.scale[links, begin:end],
            start=by_bin(self.start),
            taps=by_bin(self.taps),
            singles=min(max(self.singles - first, 0), stop - first),
            index=self.index[links, begin:end],
            power=self.power[links],
            readings=self._readings(lambda x: x[links]),
        )

    def double(self) -> Tokens:
        """The same numbers in double precision."""
        names = ("features", "log_periodogram", "noise", "series", "scale", "start")
        values = {name: getattr(self, name) for name in names}
        found: dict[str, Any] = {name: None if x is None else x.to(_wide(x)) for name, x in values.items()}
        return replace(self, **found, readings=self._readings(lambda x: x.double() if x.is_floating_point() else x))

    def _readings(self, change: Callable[[Tensor], Tensor]) -> Readings | None:
        if self.readings is None:
            return None
        return Readings({name: (change(x), change(present)) for name, (x, present) in self.readings.items()})

    def csi(self, coefficients: Tensor, num_rx_ant: int) -> Tensor:
        """Coefficients ``[link, bin, slot]`` -> ``[link, slot, subcarrier, rx_ant, tx_ant]``, all others zero."""
        return self.basis.inverse(place(coefficients, self.index, self.power.shape[1]), num_rx_ant)


def _wide(x: Tensor) -> torch.dtype:
    return torch.complex128 if x.is_complex() else torch.float64


def means_of_groups(x: Tensor, singles: int, group_size: int) -> Tensor:
    """``[link, bin, ...]`` -> ``[link, token, ...]``; see :meth:`Tokens.per_token`."""
    grouped = x[:, singles:]
    if grouped.shape[1]:
        grouped = grouped.unflatten(1, (-1, group_size)).mean(2)
    return torch.cat([x[:, :singles], grouped], 1)


def filled_bins(h: Tensor, polarisations: int) -> int:
    """How many coefficients of the link's own eigenbasis a history ``[link, slot, subcarrier, rx_ant, tx_ant]`` fills.

    A covariance from ``n`` snapshots has rank ``n`` at most: a history of one antenna and 16 slots fills 16 of 52
    modes over subcarriers, and the other 36 hold zeros.

    Example:
        >>> filled_bins(torch.zeros(1, 16, 52, 1, 1), 1), filled_bins(torch.zeros(1, 16, 48, 1, 32), 2)
        (16, 1536)
    """
    _, slots, subcarriers, rx_ants, tx_ants = h.shape
    ports = tx_ants // polarisations
    by_tone = min(subcarriers, slots * rx_ants * tx_ants)
    return by_tone * rx_ants * polarisations * min(ports, slots * subcarriers * rx_ants)


def make_tokens(
    config: AirlamConfig,
    h_past: Tensor,
    num_future: int,
    polarisations: int,
    observed: Tensor | None = None,
    view: int = 0,
) -> Tokens:
    """Normalised histories ``[link, slot, subcarrier, rx_ant, tx_ant]`` -> :class:`Tokens`.

    Where ``observed [link, slot]`` is given there is no classical start: it needs every slot. ``view`` chooses the
    basis: :func:`airlam.models.views.view_basis`.
    """
    c = config
    slots = h_past.shape[1]
    basis = view_basis(view, h_past, polarisations, observed, forward_backward=c.forward_backward)
    bins = basis.forward(h_past)
    num_bins = bins.shape[1]
    seen = None if observed is None else observed[:, None, :]
    if seen is not None:
        bins = bins * seen
    singles = min(c.num_tokens, num_bins)
    groups = min(c.num_groups, (num_bins - singles) // c.group_size)
    kept, index = strongest(bins, singles + groups * c.group_size)
    start = taps = None
    if observed is None:
        taps = class_filters(
            kept,
            order=c.start_order,
            ridge=c.start_ridge,
            num_classes=c.start_classes,
            shrinkage=c.start_shrinkage,
        )
        start = roll_out(kept, taps, max(num_future, START_SLOTS))
    count = torch.full_like(kept.real[..., :1], slots) if seen is None else seen.sum(-1, keepdim=True)
    count = count.clamp_min(1)
    # Rough noise variance of a bin's sample: the mean over the weaker half of all bins. It is biased (low for few
    # slots, high for small arrays); the network corrects it. Bins that so short a history cannot fill hold neither
    # signal nor noise: they do not count.
    all_power = (bins.real.square() + bins.imag.square()).sum(-1) / count[:, :1, 0]
    filled = filled_bins(h_past, polarisations)
    weaker = max(1, filled // 2)
    lowest = weaker + num_bins - filled
    floor = all_power.topk(lowest, largest=False, sorted=False).values.mean(-1, keepdim=True)
    floor = (floor if filled == num_bins else floor * (lowest / weaker)) + 1e-9
    power = all_power.gather(1, index)[..., None]
    scale = power.clamp_min(1e-12).sqrt()
    series = kept / scale
    noise = (floor[..., None] / power.clamp_min(1e-12)).clamp(1e-6, 1.0)[..., 0]
    ports, subcarriers = basis.port.shape[-1], basis.frequency.shape[-1]
    # of each bin: noise, level, and the ranks of its modes, counted from the strongest
    ranks = torch.stack([ports - 1 - index % ports, subcarriers - 1 - index // (num_bins // subcarriers)], -1)
    facts = torch.cat([noise[..., None], torch.log(scale), torch.log1p(ranks.to(noise.dtype))], -1)

    noise, level, port_rank, frequency_rank = means_of_groups(facts, singles, c.group_size).unbind(-1)
    spectrum = means_of_groups(periodogram(series, c.doppler_grid, seen), singles, c.group_size)
    log_periodogram = torch.log(spectrum + 0.1 * noise[..., None] / slots + 1e-4)
    # The series as the network sees it, turned to the phase of the last slot that was measured. A group shows its
    # first member.
    first = torch.arange(singles + groups, device=index.device)
    first = torch.where(first < singles, first, singles + (first - singles) * c.group_size)
    shown = series[:, first]
    last = shown[..., -1:]
    if seen is not None:
        newest = (seen * torch.arange(1, slots + 1, device=seen.device)).argmax(-1, keepdim=True)
        last = shown.gather(-1, newest.expand(*shown.shape[:2], 1))
    turn = torch.sgn(last).conj()
    turn = torch.where(turn == 0, torch.ones_like(turn), turn)
    own = torch.view_as_real(nn.functional.pad(shown * turn, (c.max_history - slots, 0))).flatten(-2)
    if start is None:
        ahead = own.new_zeros(*own.shape[:2], 2 * START_SLOTS)
    else:
        ahead = torch.view_as_real((start / scale)[:, first, :START_SLOTS] * turn).flatten(-2).clamp(-4, 4)
    fraction = torch.ones_like(level) if seen is None else seen.to(level.dtype).mean(-1).expand_as(level)
    scalars = [
        -0.25 * torch.log(noise),
        level,
        level - level[:, :1],
        port_rank,
        frequency_rank,
        torch.full_like(level, math.log(ports)),
        torch.full_like(level, math.log(subcarriers)),
        torch.full_like(level, slots / c.max_history),
        fraction,
        (first >= singles).to(level.dtype).expand_as(level),
    ]
    features = torch.cat([own, ahead, 0.25 * log_periodogram + 1.0, torch.stack(scalars, -1)], -1)
    by_token = (features, log_periodogram, noise)
    return Tokens(*by_token, series, scale, start, taps, singles, c.group_size, basis, index, all_power)
