"""Paths in a measured history: plane waves over slots, subcarriers, columns and rows, found and refined jointly.

A path is an exponential along each axis, with one complex gain for each polarisation and receive antenna. Detection
takes peaks of an oversampled FFT of what is not explained yet. Refinement is Gauss-Newton on the shifts of all paths at
once, the gains eliminated (variable projection, Golub and Pereyra 1973; Kaufman's approximation): inner products of
paths and of their derivatives are Hadamard products of small matrices, one for each axis, so a step touches the data
once only. To refine all paths whenever some are added is the idea of Newtonised matching pursuit (Mamandipoor et al.,
IEEE Trans. Signal Process. 64(19), 2016).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

TURN = 2j * math.pi
SIDELOBE = 0.2  # of the strongest peak: weaker ones found with it may be its sidelobes
FIRST = 4  # rounds of detection: with more steps
LAST = 2  # of the final steps: in double precision
SAMPLE = 20_000  # bins of a spectrum whose median is its level
CLIP = 0.4  # of an axis' resolution: the longest step


@dataclass
class Search:
    """How hard paths are looked for.

    Attributes:
        most: paths of a link. threshold: of a peak over the noise of the residual's spectrum. rounds: of detection;
        at_once: paths that each may add. steps: of Gauss-Newton after each round; first_steps: after each of the first
        few, whose strong paths must be exact before weak ones are looked for beside them; final: after the last.
    """

    most: int = 80
    threshold: float = 12.0
    rounds: int = 14
    at_once: int = 12
    steps: int = 1
    first_steps: int = 2
    final: int = 8


class PathFit:
    """Paths of a batch of links.

    Args:
        x: ``complex [link, gain, slot, subcarrier, column, row]``, of unit mean power or zero.
        observed: ``bool [link, slot]``, False where a slot was not measured; ``None``: all were.

    Attributes:
        shift: ``[link, path, axis]``, turns from sample to sample, along slots, subcarriers, columns, rows.
        live: ``bool [link, path]``: links have unequally many paths. noise: ``[link]``, variance of an entry.
    """

    def __init__(self, x: Tensor, observed: Tensor | None = None) -> None:
        links, self.gains = x.shape[:2]
        self.sizes, self.observed = tuple(x.shape[2:]), observed
        self.measured = x.real.new_ones(links)  # share of the slots
        if observed is not None:
            x = x * observed[:, None, :, None, None, None]
            self.measured = observed.to(x.real.dtype).mean(1)
        self.x = x
        self.free = [axis for axis, size in enumerate(self.sizes) if size > 1]
        real = x.real.dtype
        # about the middle, so that shifts and phases of gains are nearly uncorrelated
        self.places = [torch.arange(n, dtype=real, device=x.device) - (n - 1) / 2 for n in self.sizes]
        self.tones_first = x.permute(0, 3, 1, 2, 4, 5).reshape(links, self.sizes[1], -1)
        self.shift = x.real.new_zeros(links, 0, 4)
        self.live = torch.zeros(links, 0, dtype=torch.bool, device=x.device)
        self.noise = x.real.new_full((links,), 1e-2)

    @classmethod
    def of(cls, x: Tensor, search: Search, observed: Tensor | None = None) -> PathFit:
        """Paths of ``x``, found and refined."""
        fit = cls(x, observed)
        x, entries = fit.x, math.prod(x.shape[1:])
        # half of the data's degrees of freedom at most
        most = min(search.most, entries // (2 * fit.gains + len(fit.free)))
        residual = x
        for turn in range(search.rounds):
            grown = fit._detect(residual, most, search)
            if not bool(grown.any()):
                break
            before = fit.shift
            left = x - fit.synthesise(fit._refine(search.first_steps if turn < FIRST else search.steps))
            # a link that is done stays as it is: how long others take must not matter to it
            fit.shift = torch.where(grown[:, None, None], fit.shift, before)
            residual = torch.where(grown[:, None, None, None, None, None], left, residual)
        if not bool(fit.live.any()):
            return fit
        # paths closer than the resolution leave valleys in which the rounding of single precision would wander
        fit._refine(search.final - LAST)
        return fit.finished()

    def finished(self) -> PathFit:
        """The last steps, in double precision, and the noise that is left."""
        fit = PathFit(self.x.to(torch.complex128), self.observed)
        fit.shift, fit.live, fit.noise = self.shift.double(), self.live, self.noise.double()
        left = squares(fit.x - fit.synthesise(fit._refine(LAST))).mean((1, 2, 3, 4, 5)) / fit.measured
        spent = fit.live.sum(1) * (2 * fit.gains + len(fit.free)) / (2 * math.prod(self.x.shape[1:]) * fit.measured)
        fit.noise = left / (1 - spent).clamp_min(0.1)
        return fit

    # -- products of paths -----------------------------------------------------------------------------------------

    def exponentials(self, shift: Tensor) -> list[Tensor]:
        """``[link, path, sample]`` for each axis; zero in slots that were not measured."""
        waves = [torch.exp(TURN * shift[..., i : i + 1] * place) for i, place in enumerate(self.places)]
        if self.observed is not None:
            waves[0] = waves[0] * self.observed[:, None]
        return waves

    def series(self, waves: list[Tensor]) -> Tensor:
        """Each path's share of the data over slots ``[link, path, gain, slot]``: correlated over all other axes."""
        links, paths = self.live.shape
        y = (waves[1].conj() @ self.tones_first).view(links, paths, self.gains, self.sizes[0], -1)
        return torch.einsum("bkgsx,bkx->bkgs", y, spatial(waves).conj()) * self.live[..., None, None]

    def gains_of(self, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Energy that the paths explain ``[link]``, and their gains ``[link, path, gain]``."""
        waves = self.exponentials(shift)
        inner = [wave.conj() @ wave.mT for wave in waves]
        c = torch.einsum("bkgs,bks->bkg", self.series(waves), waves[0].conj())
        gain = torch.cholesky_solve(c, torch.linalg.cholesky(loaded(self, inner[0] * inner[1] * inner[2] * inner[3])))
        return (c.conj() * gain).real.sum((1, 2)), gain

    def synthesise(self, gain: Tensor) -> Tensor:
        """The paths with their gains, shaped as the data."""
        waves = self.exponentials(self.shift)
        series = gain[..., None] * waves[0][:, :, None] * self.live[..., None, None]
        y = torch.einsum("bkgt,bkx->bkgtx", series, spatial(waves)).flatten(2)
        shape = (len(y), self.sizes[1], self.gains, self.sizes[0], *self.sizes[2:])
        return (waves[1].mT @ y).view(shape).permute(0, 2, 3, 1, 4, 5)

    # -- detection -------------------------------------------------------------------------------------------------

    def _detect(self, residual: Tensor, most: int, search: Search) -> Tensor:
        """Add the highest peaks of the residual's spectrum; ``bool [link]``, where there was one."""
        shift, height, level = peaks(residual, search.at_once)
        new = (height > SIDELOBE * height[:, :1]) & (height > search.threshold * level[:, None])
        room = most - self.live.sum(1, keepdim=True)
        new &= torch.arange(new.shape[1], device=new.device) < room
        grown = new.any(1)
        noise = (level / (math.prod(self.sizes) * self.measured * (self.gains - 1 / 3))).clamp_min(1e-6)
        self.noise = torch.where(grown | (self.live.sum(1) == 0), noise, self.noise)
        if not bool(grown.any()):
            return grown
        self.shift = torch.cat([self.shift, shift], 1)
        self.live = torch.cat([self.live, new], 1)
        order = (~self.live).int().argsort(dim=1, stable=True)[:, : int(self.live.sum(1).max())]
        self.live = self.live.gather(1, order)
        self.shift = self.shift.gather(1, order[..., None].expand(-1, -1, 4))
        return grown

    # -- refinement ------------------------------------------------------------------------------------------------

    def _refine(self, steps: int) -> Tensor:
        """Levenberg-Marquardt: a step that explains less is taken back halfway, with more damping; returns gains."""
        damping = self.noise.new_full((len(self.noise),), 1e-2)
        best, most = self.shift, self.noise.new_full((len(self.noise),), -1.0)
        trial, gain = self.shift, self.x.new_zeros(())
        for _ in range(steps):
            energy, own, following = self._step(trial, damping)
            better = energy >= most
            best = torch.where(better[:, None, None], trial, best)
            gain = torch.where(better[:, None, None], own, gain)
            trial = torch.where(better[:, None, None], following, 0.5 * (best + trial))
            most = torch.where(better, energy, most)
            damping = torch.where(better, damping * 0.3, damping * 10).clamp(1e-4, 1e2)
        energy, own = self.gains_of(trial)
        better = (energy >= most)[:, None, None]
        self.shift = torch.where(better, trial, best)
        return torch.where(better, own, gain)

    def _step(self, shift: Tensor, damping: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The energy that paths explain, their gains, and where the next step leads."""
        links, paths = self.live.shape
        free, both, waves = self.free, pairs(self.live), self.exponentials(shift)
        slopes = [TURN * place * wave for place, wave in zip(self.places, waves, strict=True)]
        grams = []
        for wave, slope in zip(waves, slopes, strict=True):
            lines = torch.cat([wave, slope], 1)
            grams.append((lines.conj() @ lines.mT).view(links, 2, paths, 2, paths))
        inner = [gram[:, 0, :, 0] for gram in grams]
        first = torch.stack([gram[:, 0, :, 1] for gram in grams], 1)  # path with derivative
        second = torch.stack([grams[i][:, 1, :, 1] for i in free], 1)
        near, far = inner[0] * inner[1], inner[2] * inner[3]
        others = torch.stack([(inner[1] * far, inner[0] * far, near * inner[3], near * inner[2])[i] for i in free], 1)
        root = torch.linalg.cholesky(loaded(self, near * far))
        c, d = self._correlate(waves, slopes)
        gain = torch.cholesky_solve(c, root)
        mixed = torch.where(both[:, None], first[:, free] * others, 0)
        seen = torch.linalg.solve_triangular(root[:, None], mixed, upper=False)  # what gains take up
        weight = torch.where(both, gain.conj() @ gain.mT, 0)[:, None]
        hessian = self.noise.new_zeros(links, len(free), paths, len(free), paths)
        same = ((second * others - seen.mH @ seen) * weight).real
        rest = {(0, 1): far, (2, 3): near}
        for a, i in enumerate(free):
            hessian[:, a, :, a] = same[:, a]
            # the lower triangle of blocks only: all that a Cholesky factorisation reads
            for b, j in enumerate(free[:a]):
                if (j, i) not in rest:
                    one, two = (m for m in range(4) if m not in (i, j))
                    rest[j, i] = inner[one] * inner[two]
                product = first[:, i].mH * first[:, j] * rest[j, i] - seen[:, a].mH @ seen[:, b]
                hessian[:, a, :, b] = (product * weight[:, 0]).real
        left = d - mixed.mH @ gain[:, None]
        slope = (gain.conj()[:, None] * left).real.sum(-1).flatten(1)  # [link, free * path]
        hessian = hessian.view(links, slope.shape[1], slope.shape[1])
        diagonal = hessian.diagonal(dim1=1, dim2=2).clamp_min(0)
        load = damping[:, None] * diagonal + 1e-6 * diagonal.amax(1, keepdim=True) + 1e-30
        load = torch.where(self.live.repeat(1, len(free)), load, 1.0)
        hessian.diagonal(dim1=1, dim2=2).add_(load)
        factor, failed = torch.linalg.cholesky_ex(hessian)
        move = torch.cholesky_solve(slope[..., None], factor)[..., 0]
        move = torch.where((failed == 0)[:, None] & move.isfinite(), move, 0).view(links, len(free), paths).mT
        sizes = move.new_tensor([self.sizes[i] for i in free])
        move = move * (CLIP / (move * sizes).abs().amax(-1, keepdim=True).clamp_min(CLIP))
        following = shift.clone()
        following[..., free] += move * self.live[..., None]
        return (c.conj() * gain).real.sum((1, 2)), gain, following

    def _correlate(self, waves: list[Tensor], slopes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The data with each path ``[link, path, gain]``, and with its derivatives along the free axes ``[link, axis,
        path, gain]``."""
        links, paths = self.live.shape
        rows = torch.cat([waves[1], slopes[1]], 1).conj()
        y = (rows @ self.tones_first).view(links, 2, paths, self.gains * self.sizes[0], -1)
        plane = [waves, [*waves[:2], slopes[2], waves[3]], [*waves[:3], slopes[3]]]
        space = torch.stack([spatial(one) for one in plane], -1).conj()  # [link, path, port, 3]
        series = torch.cat([y[:, 0] @ space, y[:, 1] @ space[..., :1]], -1).view(
            links, paths, self.gains, self.sizes[0], 4
        )
        times = torch.stack([waves[0], slopes[0]], 2).conj()[:, :, None]  # [link, path, 1, 2, slot]
        found = times @ series  # [link, path, gain, 2, 4]
        c, by_slot = found[..., 0, 0], found[..., 1, 0]
        d = (by_slot, found[..., 0, 3], found[..., 0, 1], found[..., 0, 2])
        # no product with paths that are not there: their weight is zero
        return c * self.live[..., None], torch.stack([d[i] for i in self.free], 1)


def pairs(live: Tensor) -> Tensor:
    """``bool [link, path, path]``: pairs of paths that are there."""
    return live[:, :, None] & live[:, None, :]


def spatial(waves: list[Tensor]) -> Tensor:
    """``[link, path, column * row]`` from the waves along the four axes."""
    return (waves[2][..., :, None] * waves[3][..., None, :]).flatten(-2)


def loaded(fit: PathFit, gram: Tensor) -> Tensor:
    """A Gram matrix that is one where there is no path, loaded with the noise where there is one, and with as much as
    keeps it positive where paths are alike."""
    least = 16 * torch.finfo(fit.noise.dtype).eps * math.prod(fit.sizes)
    load = torch.where(fit.live, fit.noise[:, None].clamp_min(least), 1.0)
    return torch.where(pairs(fit.live), gram, 0) + torch.diag_embed(load).to(gram.dtype)


def peaks(residual: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The highest local maxima of the spectrum, summed over gains.

    Returns:
        Shifts ``[link, peak, axis]`` and heights ``[link, peak]``, in falling order, and the median ``[link]``:
        that of a Gamma distribution where it is noise.
    """
    grid = [n if n == 1 or n > 8 else 2 * n for n in residual.shape[2:]]
    power = squares(spectrum(residual, grid)).sum(1)
    flat = power.flatten(1)
    top = flat.topk(min(8 * count, flat.shape[1]), 1)
    places = torch.stack(torch.unravel_index(top.indices, grid), -1)
    # of the highest bins those that no neighbour exceeds, also across corners
    steps = [torch.arange(-1, 2) if n > 2 else torch.arange(1) for n in grid]
    near = torch.cartesian_prod(*steps).to(power.device)
    sizes = torch.tensor(grid, device=power.device)
    strides = torch.tensor([math.prod(grid[axis + 1 :]) for axis in range(4)], device=power.device)
    around = (((places[:, :, None] + near) % sizes) * strides).sum(-1)  # [link, bin, neighbour]
    best = flat.gather(1, around.flatten(1)).view(around.shape).amax(-1)
    height, order = torch.where(top.values >= best, top.values, 0).sort(descending=True, stable=True)
    places = places.gather(1, order[..., None].expand_as(places))[:, :count]
    shift = places.to(power.dtype) / sizes
    level = flat[:, :: 1 + power[0].numel() // SAMPLE].median(1).values
    return torch.where(shift > 0.5, shift - 1, shift), height[:, :count], level


def spectrum(x: Tensor, grid: list[int]) -> Tensor:
    """Discrete Fourier transform along slots, subcarriers, columns, rows, zero-padded to ``grid``."""
    whole = [axis for axis in range(2, 6) if grid[axis - 2] == x.shape[axis]]
    x = torch.fft.fftn(x, dim=whole) if whole else x
    # a short axis by a small matrix: a sixth of the time of a padded FFT
    for axis in range(2, 6):
        if axis not in whole:
            rows = torch.arange(grid[axis - 2], device=x.device)[:, None]
            turns = rows * torch.arange(x.shape[axis], device=x.device) / grid[axis - 2]
            x = (x.movedim(axis, -1) @ torch.exp(-TURN * turns).to(x.dtype).mT).movedim(-1, axis)
    return x


def squares(x: Tensor) -> Tensor:
    """``|x|^2`` without the square root that ``abs`` takes."""
    return x.real.square() + x.imag.square()
