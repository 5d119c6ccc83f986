"""A precoder that keeps up with streams: robust regularised zero forcing, or a few rounds of robust WMMSE.

Both are those of :mod:`airlam.baselines`, in systems of the size of the group. That takes errors of CSI which either
are white, each user's with its own variance (they are further noise of this user), or have one covariance for all users
(rows are then multiplied by the inverse of it, which is the same for all tones).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from airlam.metrics.rates import dominant_row
from airlam.realtime import kernels


class FastPrecoder:
    """Beams of one group of users for some slots to come, in a fraction of a millisecond.

    Args:
        power: of all beams of a tone, ``sum_k ||w_k||^2``.
        no: noise variance of every user. Users with unequal noise are scaled to the same before.
        rounds: of WMMSE, begun where the last slot ended; 0: regularised zero forcing with equal powers.
        tones_per_weight: neighbouring subcarriers that share the beams of the one in their middle.
        compiled: see :func:`airlam.realtime.kernels.load`.

    Example:
        >>> h = np.random.default_rng(0).standard_normal((4, 2, 12, 1, 8)).astype(np.complex64)
        >>> FastPrecoder(no=0.01).precode(h, variance=np.full((4, 2), 0.1)).shape
        (2, 12, 8, 4)
    """

    def __init__(
        self,
        *,
        power: float = 1.0,
        no: float,
        rounds: int = 0,
        tones_per_weight: int = 1,
        compiled: bool | None = None,
    ) -> None:
        for name, number in (("power", power), ("no", no)):
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < math.inf:
                raise ValueError(f"{name} is {number!r}, but must be a positive number (linear, not dB)")
        for name, count, least in (("rounds", rounds, 0), ("tones_per_weight", tones_per_weight, 1)):
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise ValueError(f"{name} is {count!r}, but must be a whole number of at least {least}")
        self.power, self.no, self.rounds, self.tones_per_weight = float(power), float(no), rounds, tones_per_weight
        self.kernels = kernels.load(compiled)
        self.reset()

    def reset(self) -> None:
        """Forget the last slot."""
        self.warm: NDArray = np.zeros((0, 2, 0, 0))
        self._spare: NDArray = self.warm
        self._turned: NDArray = np.zeros(0, np.complex64)

    def precode(
        self,
        h: NDArray,
        *,
        variance: NDArray | None = None,
        whitening: NDArray | None = None,
        passed: int = 1,
        out: NDArray | None = None,
    ) -> NDArray:
        """Beams from predictions.

        Args:
            h: ``complex64 [user, slot, subcarrier, rx_ant, tx_ant]``, predicted for neighbouring slots. Users with
                several receive antennas are served along their dominant direction, as in
                :mod:`airlam.baselines.precoders`.
            variance: of each entry's error ``[user, slot]``; ``None``: as if there was none.
            whitening: ``complex64 [slot, tx_ant, tx_ant]``, see :func:`whitened`, instead of ``variance``.
            passed: slots since the prediction of the call before, where WMMSE begins.
            out: to write to instead of a new array, contiguous.

        Returns:
            ``complex64 [slot, subcarrier, tx_ant, user]`` with ``sum_k ||w_k||^2 = power``; a user without a channel
            gets no beam.

        Raises:
            ValueError: shapes that do not fit, NaN, infinity.
        """
        users, slots, tones, _, ports = self._checked(h)
        blocks = tones // self.tones_per_weight
        if tones % self.tones_per_weight:
            raise ValueError(f"tones_per_weight is {self.tones_per_weight}, but must divide the {tones} subcarriers")
        rows = h[:, :, self.tones_per_weight // 2 :: self.tones_per_weight]
        rows = rows[:, :, :, 0] if h.shape[3] == 1 else dominant_row(torch.from_numpy(rows)).numpy()
        rows = np.ascontiguousarray(rows.swapaxes(0, 1), np.complex64)
        if not math.isfinite(np.vdot(rows, rows).real):
            raise ValueError("h contains NaN or infinity, or is so large that its square does")
        noise = np.full((slots, users), self.no / self.power)
        if variance is not None:
            noise += _fits("variance", variance, (users, slots)).T
        turned = rows
        if whitening is not None:
            turned = self._scratch(rows.shape)
            flat = (slots, users * blocks, ports)
            matrix = np.asarray(_fits("whitening", whitening, (slots, ports, ports)), np.complex64)
            np.matmul(rows.reshape(flat), matrix, out=turned.reshape(flat))
        w = np.empty((slots, tones, ports, users), np.complex64) if out is None else out
        if w.shape != (slots, tones, ports, users) or w.dtype != np.complex64 or not w.flags.c_contiguous:
            sizes = (slots, tones, ports, users)
            raise ValueError(f"out is {w.dtype} {w.shape}, but must be a contiguous array complex64 {sizes}")
        start, duals = self._warm((slots, 2, users, blocks))
        self.kernels.beams(rows, turned, noise, self.power, self.rounds, passed, start, duals, w)
        if self.rounds:
            self.warm, self._spare = duals, start
        return w

    def _checked(self, h: NDArray) -> tuple[int, ...]:
        if not isinstance(h, np.ndarray) or h.dtype != np.complex64 or h.ndim != 5 or not h.size:
            said = f"{getattr(h, 'dtype', type(h).__name__)} {tuple(getattr(h, 'shape', ()))}"
            raise ValueError(f"h is {said}, but must be complex64 [user, slot, subcarrier, rx_ant, tx_ant]")
        return h.shape

    def _warm(self, sizes: tuple[int, ...]) -> tuple[NDArray, NDArray]:
        """Where to begin, and where to write what the next slot begins with."""
        if not self.rounds:
            return self.warm, self.warm
        if self._spare.shape != sizes:
            self._spare = np.zeros(sizes)
        return (self.warm if self.warm.shape == sizes else np.zeros((0, *sizes[1:]))), self._spare

    def _scratch(self, sizes: tuple[int, ...]) -> NDArray:
        if self._turned.shape != sizes:
            self._turned = np.empty(sizes, np.complex64)
        return self._turned


def whitened(covariance: NDArray, users: int, no: float, power: float = 1.0) -> NDArray:
    """What a :class:`FastPrecoder` multiplies rows by: ``(I + C power / (users no))^-1``.

    Args:
        covariance: ``complex [..., tx_ant, tx_ant]``, the sum over users of the covariances of their errors
            ``E[e_k^H e_k]``. Regularised zero forcing takes no more than this sum; WMMSE takes it in equal shares.
        users: of the group. no, power: see :class:`FastPrecoder`.

    Example:
        >>> whitened(np.eye(2), users=1, no=1.0).real.tolist()
        [[0.5, 0.0], [0.0, 0.5]]
    """
    eye = np.eye(covariance.shape[-1], dtype=np.complex64)
    return np.linalg.inv(eye + (power / (users * no)) * covariance).astype(np.complex64)


def _fits(name: str, value: NDArray, shape: tuple[int, ...]) -> NDArray:
    found = np.asarray(value)
    if found.shape != shape:
        raise ValueError(f"{name} has the shape {found.shape}, but must have {shape}")
    if not math.isfinite(float(np.abs(found.sum()))) or (name == "variance" and found.min() < 0):
        raise ValueError(f"{name} must be finite, and a variance not negative")
    return found
