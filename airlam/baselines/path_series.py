"""The series of paths over slots, estimated and extrapolated jointly by linear MMSE.

A path that :mod:`airlam.baselines.path_fit` finds stands for a cluster of rays that no history of some slots tells
apart. So its series is no exponential but has a narrow Doppler spectrum around one; and because the rays differ in
delay and direction too, it comes with weaker series on the path's slopes along subcarriers, columns and rows (the first
term of a Taylor expansion about the cluster's mean).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from airlam.baselines.path_fit import TURN, PathFit
from airlam.csi import PortShape

LEAST_NOISE = 1e-5  # of an entry: keeps systems of paths that are alike well conditioned
KINDS = 4  # a path, and its slopes along subcarriers, columns, rows
# Gauss-Hermite: three points stand for a Gaussian Doppler spectrum, exactly so up to the fifth moment
NODES = (-math.sqrt(3), 0.0, math.sqrt(3))
SHARES = (1 / 6, 2 / 3, 1 / 6)


class Statistics(NamedTuple):
    """Of paths and of their slopes.

    Attributes:
        power: ``[link, kind, path]``. doppler: ``[link, path]``, mean of the Doppler spectrum, and width: ``[link,
        path]``, its standard deviation, in turns a slot. noise: ``[link]``, variance of an entry.
    """

    power: Tensor
    doppler: Tensor
    width: Tensor
    noise: Tensor


class Other(NamedTuple):
    """Another prediction of the slots that follow, as the paths see it.

    Attributes:
        seen: as :attr:`Paths.true`, of the prediction. error: its energy ``[link, slot]``. product: real part of the
        inner product of its error with the true CSI ``[link, slot]``. variance: that it states, of an entry
        ``[link, slot]``.
    """

    seen: Tensor
    error: Tensor
    product: Tensor
    variance: Tensor


@dataclass
class Paths:
    """Paths of a batch of links, strongest first, and the history and the truth as they see it.

    Attributes:
        shift: ``float64 [link, path, axis]``, turns from sample to sample along slots, subcarriers, columns, rows.
        live: ``bool [link, path]``: links have unequally many paths.
        noise: ``[link]``, variance of an entry, 1e-5 at least.
        seen: ``complex128 [link, kind, path, gain, slot]``, the history correlated over all axes but slots with each
            path (kind 0), and with its slopes along subcarriers, columns and rows (:meth:`waves`).
        sizes: of the four axes.
        observed: ``bool [link, slot]``, False where a slot of the history was not measured; ``None``: all were.
        true: as ``seen``, of the slots to predict; energy: ``[link, slot]`` of their CSI; other: another method's
        prediction of them. ``None`` outside training.
    """

    shift: Tensor
    live: Tensor
    noise: Tensor
    seen: Tensor
    sizes: tuple[int, ...]
    observed: Tensor | None = None
    true: Tensor | None = None
    energy: Tensor | None = None
    other: Other | None = None

    @classmethod
    def at(
        cls,
        x: Tensor,
        shift: Tensor,
        live: Tensor,
        noise: Tensor,
        future: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> Paths:
        """Known paths in histories ``x`` as :class:`PathFit` takes them."""
        if observed is not None:
            x = x * observed[:, None, :, None, None, None]
        if not live.shape[1]:  # one that is not there, so that nothing else needs to know
            shift, live = shift.new_zeros(len(shift), 1, 4), live.new_zeros(len(live), 1)
        links, count = live.shape
        none = x.new_zeros(links, KINDS, count, x.shape[1], 0, dtype=torch.complex128)
        found = cls(shift.double(), live, noise.double().clamp_min(LEAST_NOISE), none, tuple(x.shape[2:]), observed)
        found.seen = found.correlate(x)
        if future is not None:
            found.true = found.correlate(future)
            found.energy = (future.real.square() + future.imag.square()).sum((1, 3, 4, 5)).double()
        return found

    def correlate(self, x: Tensor) -> Tensor:
        """CSI ``[link, gain, slot, subcarrier, column, row]`` with the paths and their slopes; see :attr:`seen`."""
        links, gains, slots = x.shape[:3]
        tones, columns, rows = (wave.to(x.dtype).conj() for wave in self.waves())  # [link, path, kind, sample]
        plain, sloped = tones[:, :, 0], tones[:, :, 1]
        y = torch.cat([plain, sloped], 1) @ x.permute(0, 3, 1, 2, 4, 5).reshape(links, x.shape[3], -1)
        y = y.view(links, 2, plain.shape[1], gains * slots, -1)
        space = torch.stack(
            [columns[:, :, kind, :, None] * rows[:, :, kind, None, :] for kind in (0, 2, 3)], -1
        ).flatten(2, 3)
        along = y[:, 0] @ space
        found = torch.stack([along[..., 0], (y[:, 1] @ space[..., :1])[..., 0], along[..., 1], along[..., 2]], 1)
        found = found.view(links, KINDS, -1, gains, slots) * self.live[:, None, :, None, None]
        return found.to(torch.complex128)

    @property
    def entries(self) -> int:
        """Antennas and subcarriers of one gain."""
        return math.prod(self.sizes[1:])

    def waves(self) -> list[Tensor]:
        """Along subcarriers, columns and rows ``[link, path, kind, sample]``: a path; its slopes along the three axes,
        of the same energy (zero along an axis of one sample)."""
        found = []
        for axis in (1, 2, 3):
            n = self.sizes[axis]
            place = torch.arange(n, dtype=torch.float64, device=self.shift.device) - (n - 1) / 2
            wave = self.wave(axis)
            slope = 1j * place / max(math.sqrt((n * n - 1) / 12), 1e-9) * wave
            found.append(torch.stack([slope if kind == axis else wave for kind in range(KINDS)], 2))
        return found

    @functools.cached_property
    def alike(self) -> Tensor:
        """Inner products of paths and slopes over all axes but slots ``complex128 [link, line, line]``, a line being
        kind * path."""
        count, blocks = self.live.shape[1], []
        for axis, wave in enumerate(self.waves(), 1):
            both = wave[:, :, [0, axis]].transpose(1, 2).flatten(1, 2)  # as they are, and their slopes
            blocks.append((both.conj() @ both.mT).unflatten(2, (2, count)).unflatten(1, (2, count)))
        rows = []
        for i in range(KINDS):
            parts = [
                [blocks[axis][:, int(i == axis + 1), :, int(j == axis + 1)] for axis in range(3)] for j in range(KINDS)
            ]
            rows.append(torch.cat([tones * columns * lines for tones, columns, lines in parts], 2))
        product = torch.cat(rows, 1)
        live = self.live.repeat(1, KINDS)
        return torch.where(live[:, :, None] & live[:, None, :], product, 0)

    @property
    def place(self) -> Tensor:
        """The part of :attr:`alike` without slopes ``[link, path, path]``."""
        count = self.live.shape[1]
        return self.alike[:, :count, :count]

    def wave(self, axis: int) -> Tensor:
        """``[link, path, sample]``, about the middle of the axis; zero in slots that were not measured."""
        n = self.sizes[axis]
        place = torch.arange(n, dtype=torch.float64, device=self.shift.device) - (n - 1) / 2
        wave = torch.exp(TURN * self.shift[..., axis : axis + 1] * place)
        return wave if axis or self.observed is None else wave * self.observed[:, None]

    @functools.cached_property
    def gains(self) -> tuple[Tensor, Tensor]:
        """Least squares gains of the paths as points ``[link, path, gain]``, and the Cholesky factor of their Gram
        matrix, loaded with the noise."""
        wave, noise = self.wave(0), self.noise[:, None]
        gram = self.place * (wave.conj() @ wave.mT)
        factor = torch.linalg.cholesky(gram + torch.diag_embed(torch.where(self.live, noise, 1.0)).to(gram.dtype))
        return torch.cholesky_solve(torch.einsum("bkgs,bks->bkg", self.seen[:, 0], wave.conj()), factor), factor

    def synthesise(self, series: Tensor, rx_ants: int, subcarriers: Tensor | None = None) -> Tensor:
        """CSI ``[link, slot, subcarrier, rx_ant, tx_ant]`` of series ``[link, kind, path, gain, slot]``;
        ``subcarriers``: indices of those that are wanted; ``None``: all."""
        tones, columns, rows = (wave.to(series.dtype) for wave in self.waves())
        tones = tones if subcarriers is None else tones[..., subcarriers]
        space = (columns[..., :, None] * rows[..., None, :]).flatten(-2)  # [link, path, kind, port]
        y = torch.einsum("bikgt,bkix->ibkgtx", series, space)
        y = torch.stack([y[0] + y[2] + y[3], y[1]], 1).flatten(1, 2)  # on tones, and on their slopes
        y = torch.einsum("bkf,bkgtx->btfgx", torch.cat([tones[:, :, 0], tones[:, :, 1]], 1), y)
        return y.reshape(*y.shape[:3], rx_ants, -1)

    def error(self, series: Tensor) -> Tensor:
        """Energy of the error of predicted series in each slot ``[link, slot]``, where the truth is known."""
        assert self.true is not None and self.energy is not None
        cross = (self.true.conj() * series).real.sum((1, 2, 3))
        flat = series.flatten(1, 2)
        squares = (flat.conj() * torch.einsum("bkj,bjgt->bkgt", self.alike, flat)).real.sum((1, 2))
        return (self.energy - 2 * cross + squares).clamp_min(0)

    def tell_other(self, future: Tensor, truth: Tensor, variance: Tensor) -> None:
        """Another method's prediction ``future`` and the truth, both shaped as the history; the variance that it states
        ``[link, slot]``."""
        wrong = future - truth
        error = (wrong.real.square() + wrong.imag.square()).sum((1, 3, 4, 5)).double()
        product = (wrong.conj() * truth).real.sum((1, 3, 4, 5)).double()
        self.other = Other(self.correlate(future), error, product, variance.double())

    def mixed_error(self, series: Tensor, own: Tensor, share: Tensor) -> Tensor:
        """As :meth:`error`, which is ``own``, of a mixture with the other prediction, whose share is ``share [link,
        slot]``."""
        assert self.true is not None and self.other is not None
        # <p - h, o - h>, where h is the truth, o the other prediction, and p that of the paths
        product = ((self.other.seen - self.true).conj() * series).real.sum((1, 2, 3)) - self.other.product
        return (1 - share).square() * own + share.square() * self.other.error + 2 * share * (1 - share) * product


@dataclass
class Posterior:
    """What a history says of atoms: exponentials over slots, on a path or on a slope.

    Attributes:
        ahead: ``complex128 [link, atom, slot]``, the slots that follow, each times the root of its prior power.
        owner: ``[link, atom]``, in kind * path. alike: their inner products over all axes but slots.
        weight: ``[link, atom, gain]``, of unit prior variance; factor: of the inverse covariance of its error.
        past: as ``ahead``, of the history's slots, and over the noise variance: ``weight`` is that covariance times the
        history as the atoms' owners see it, summed over slots with the conjugate of this.
    """

    paths: Paths
    past: Tensor
    ahead: Tensor
    owner: Tensor
    alike: Tensor
    weight: Tensor
    factor: Tensor

    @classmethod
    def of(cls, paths: Paths, statistics: Statistics, num_future: int, most: int, weakest: float = 0.0) -> Posterior:
        """The joint linear MMSE estimate. Of all atoms the ``most`` strongest count; those that no link expects to have
        more than ``weakest`` times the noise's energy, in the history as an atom sees it, do not."""
        past, ahead, owner = _atoms(paths, statistics, num_future, most, weakest)
        root = statistics.noise.sqrt()[:, None, None]
        white = past / root
        past = white / root
        size, (count, gains, slots) = owner.shape[1], paths.seen.flatten(1, 2).shape[1:]
        alike = paths.alike.gather(1, owner[:, :, None].expand(-1, -1, count))
        alike = alike.gather(2, owner[:, None, :].expand(-1, size, -1))
        seen = paths.seen.flatten(1, 2).gather(1, owner[:, :, None, None].expand(-1, -1, gains, slots))
        data = torch.einsum("bkgs,bks->bkg", seen, past.conj())
        weight, factor = JointSolve.apply(white, alike, data)
        return cls(paths, past, ahead, owner, alike, weight, factor)

    @functools.cached_property
    def covariance(self) -> Tensor:
        """Of the errors of :attr:`weight`, ``[link, atom, atom]``."""
        with torch.no_grad():
            return torch.cholesky_inverse(self.factor)

    def series(self) -> Tensor:
        """Series of paths and slopes in the slots that follow, ``complex128 [link, kind, path, gain, slot]``."""
        each = self.weight[..., None] * self.ahead[:, :, None]
        out = each.new_zeros(len(each), KINDS * self.paths.live.shape[1], *each.shape[2:])
        return out.scatter_add(1, self.owner[:, :, None, None].expand_as(each), each).unflatten(1, (KINDS, -1))

    def variance(self) -> Tensor:
        """Of an entry's error in the slots that follow ``[link, slot]``, averaged over the entries; no gradient."""
        with torch.no_grad():
            # alike is Hermitian: its transpose is its conjugate, and conjugating the rest instead saves a copy
            spread = (self.covariance.conj().resolve_conj().mul_(self.alike) @ self.ahead * self.ahead.conj()).sum(1)
            return spread.real.clamp_min(0) / self.paths.entries

    def growth(self) -> Tensor:
        """Expected power over prior power ``[link, kind, path]``, as expectation maximisation has it; 1 without
        atoms."""
        each = self.weight.abs().square().mean(-1) + self.covariance.diagonal(dim1=1, dim2=2).real
        out = each.new_ones(len(each), KINDS * self.paths.live.shape[1])
        return out.scatter_reduce(1, self.owner, each, "mean", include_self=False).unflatten(1, (KINDS, -1))

    def port_covariance(self, subcarriers: Tensor | None = None) -> Tensor:
        """Of errors over the ports of one polarisation, ``E[conj(e_a) e_b]``: ``complex128 [link, slot, subcarrier,
        port, port]``, the same for every gain; errors of different gains are uncorrelated. ``subcarriers``: indices of
        those that are wanted; ``None``: all."""
        tones, columns, rows = self.paths.waves()
        tones = tones if subcarriers is None else tones[..., subcarriers]
        space = (columns[..., :, None] * rows[..., None, :]).flatten(-2)
        lines = [x.transpose(1, 2).flatten(1, 2) for x in (tones, space)]  # [link, kind * path, sample]
        tones, space = (x.gather(1, self.owner[..., None].expand(-1, -1, x.shape[2])) for x in lines)
        errors = torch.einsum("bkt,bkf,bkx->bktfx", self.ahead, tones, space)
        shape = errors.shape[2:]
        white = torch.linalg.solve_triangular(self.factor, errors.conj().flatten(2), upper=False).unflatten(2, shape)
        return torch.einsum("bktfa,bktfc->btfac", white, white.conj())


class JointSolve(torch.autograd.Function):
    """``weight`` with ``((past^* past^T) * alike + 1) weight = data``, and the Cholesky factor of that matrix.

    Its gradient needs products with ``alike`` only, no matrix of all pairs: the gradient with respect to the system is
    of low rank. ``factor`` carries none.
    """

    @staticmethod
    def forward(ctx: Any, past: Tensor, alike: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
        system = (past.conj() @ past.mT).mul_(alike)
        system.diagonal(dim1=1, dim2=2).add_(1)
        factor = torch.linalg.cholesky(system)
        weight = torch.cholesky_solve(data, factor)
        ctx.save_for_backward(past, alike, weight, factor)
        ctx.mark_non_differentiable(factor)
        return weight, factor

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor, None, Tensor]:
        past, alike, weight, factor = ctx.saved_tensors
        adjoint = torch.cholesky_solve(grad, factor)
        both = torch.cat([weight, adjoint], 2)  # [link, atom, 2 * gain]
        turned = (alike @ (both[..., None] * past[:, :, None]).flatten(2)).unflatten(2, (2, -1, past.shape[2]))
        other = torch.stack([adjoint, weight], 2).conj()
        return -(other[..., None] * turned).sum((2, 3)), None, adjoint


def _atoms(
    paths: Paths, statistics: Statistics, num_future: int, most: int, weakest: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``past``, ``ahead``, ``owner`` of a :class:`Posterior`."""
    doppler, slots = statistics.doppler, paths.sizes[0]
    power = statistics.power * paths.live[:, None]
    turns = doppler[..., None] + statistics.width[..., None] * doppler.new_tensor(NODES)
    # a slope's series is weak: one exponential at the mean Doppler shift serves as well as several
    frequency = [turns.flatten(1)] + [doppler] * (KINDS - 1)
    strengths = [(power[:, 0, :, None] * doppler.new_tensor(SHARES)).flatten(1), power[:, 1:].flatten(1)]
    lines = torch.arange(KINDS * doppler.shape[1], device=doppler.device).unflatten(0, (KINDS, -1))
    owner = torch.cat([lines[0].repeat_interleave(len(NODES)), lines[1:].flatten()])
    every = torch.cat(strengths, 1)
    if weakest:
        energy = every.detach() * (paths.entries * slots) / statistics.noise.detach()[:, None]
        most = min(most, max(1, int((energy > weakest).sum(1).max())))
    chosen = every.detach().topk(min(most, every.shape[1]), 1).indices
    strength, turns = every.gather(1, chosen), torch.cat(frequency, 1).gather(1, chosen)
    times = torch.arange(slots + num_future, dtype=doppler.dtype, device=doppler.device) - (slots - 1) / 2
    angle = 2 * math.pi * turns[..., None] * times
    root = strength.clamp_min(1e-14).sqrt() * (strength.detach() > 0)
    atoms = torch.polar(torch.ones_like(angle), angle) * root[..., None]
    past = atoms[..., :slots] if paths.observed is None else atoms[..., :slots] * paths.observed[:, None]
    return past, atoms[..., slots:], owner[chosen]


def strongest_first(fit: PathFit) -> tuple[Tensor, Tensor, Tensor]:
    """``shift``, ``live`` and ``noise`` of a fit, its paths in falling order of power."""
    if not fit.live.shape[1]:
        return fit.shift, fit.live, fit.noise
    power = fit.gains_of(fit.shift)[1].abs().square().sum(-1)
    order = power.masked_fill(~fit.live, -1).argsort(dim=1, descending=True)
    return fit.shift.gather(1, order[..., None].expand_as(fit.shift)), fit.live.gather(1, order), fit.noise


def as_panel(h: Tensor, shape: PortShape) -> Tensor:
    """``[link, slot, subcarrier, rx_ant, tx_ant]`` -> ``[link, gain, slot, subcarrier, column, row]``; a gain is a
    receive antenna and a polarisation."""
    return h.unflatten(-1, shape).permute(0, 3, 4, 1, 2, 5, 6).flatten(1, 2).contiguous()
