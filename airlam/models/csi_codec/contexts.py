"""How likely each size of a coefficient is, given those coded before: integers alone, the same on every machine."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from airlam.csi import PortShape

SIZES = 16  # symbols: 0 to 14, and "15 or more"
SUMS = 13  # sums over coefficients coded before
PLACES = 11  # facts about the place alone
STEPS = 32  # step sizes
FEATURES = 2 * SUMS + 1 + PLACES + 1
LOG = np.round(8 * np.log2(1 + np.arange(4096))).astype(np.int64)  # of a sum; no value lies near a half


class Places:
    """The order in which coefficients of an array and a band are coded, and which of them each one's context sums.

    Beams are counted from the strongest one, delays likewise, circularly. Near delays come first, in each delay near
    beams, then the polarisation of the strongest coefficient.

    Attributes:
        order: ``int [coefficient]``, the place in ``[polarisation, column, row, delay]``, flat.
        sums: ``int [coefficient SUMS, coefficient]``, sparse.
        facts: ``int [coefficient, PLACES]``.
    """

    def __init__(self, port_shape: PortShape, delays: int):
        polarisations, columns, rows = port_shape
        grid = np.stack(np.meshgrid(*map(np.arange, (polarisations, columns, rows, delays)), indexing="ij"), -1)
        grid = grid.reshape(-1, 4)
        p, c, r, d = grid.T
        far = [np.minimum(x, n - x) for x, n in ((c, columns), (r, rows), (d, delays))]
        order = np.lexsort((p, r, c, far[0] + far[1], d, far[2]))
        self.order, self.shape = order, (polarisations, columns, rows, delays)
        p, c, r, d = grid[order].T
        far_c, far_r, far_d = (x[order] for x in far)
        count = len(order)
        rank = np.arange(count)

        def apart(x: NDArray, n: int) -> NDArray:
            gap = np.abs(x[:, None] - x[None])
            return np.minimum(gap, n - gap)

        dp, dc, dr, dd = (apart(x, n) for x, n in zip((p, c, r, d), self.shape, strict=True))
        before = rank[None] < rank[:, None]
        same = (dp == 0) & before
        other = (dp != 0) & before
        beam, near = (dc == 0) & (dr == 0), (dc + dr == 1)
        masks = [
            other & beam & (dd == 0),
            same & (dc == 1) & (dr == 0) & (dd == 0),
            same & (dc == 0) & (dr == 1) & (dd == 0),
            other & near & (dd == 0),
            same & beam & (dd == 1),
            other & beam & (dd == 1),
            before & near & (dd == 1),
            before & beam & (dd == 2),
            before & beam,
            before & near,
            before & (dd == 0),
            before & (dd == 1),
            before,
        ]
        self.sums = csr_array(np.stack(masks, 1).reshape(count * SUMS, count).astype(np.int64))
        size = [round(8 * math.log2(min(n, most))) for n, most in ((columns, 4), (rows, 4), (delays, 12))]  # as trained
        facts = [
            p * 16,
            np.minimum(far_c, 4) * 8,
            np.minimum(far_r, 4) * 8,
            np.minimum(far_d, 8) * 8,
            LOG[np.minimum(far_d, 99)],
            (2 * d <= delays) * 16,
            (rank == 0) * 32,
            LOG[np.minimum(count - rank, 384)],
            *(np.full(count, n) for n in size),
        ]
        self.facts = np.stack(facts, 1).astype(np.int64)

    def features(self, sizes: NDArray, step: NDArray, at: int | None = None) -> NDArray:
        """Facts and sums, ``int [coefficient, link, FEATURES]``, of all coefficients or that at one place.

        Args:
            sizes: ``int [coefficient, link]``, in order. step: ``int [link]``.
        """
        sums, facts = self.sums, self.facts
        if at is not None:
            sums, facts = _row(self, at), facts[at : at + 1]
        seen = (sums @ sizes).reshape(len(facts), SUMS, -1).swapaxes(1, 2)  # [coefficient, link, SUMS]
        shape = (*seen.shape[:2], -1)
        mean = LOG[np.minimum(8 * seen[..., -1:] // (1 + self._ranks(at)), 4095)]
        return np.concatenate(
            [
                LOG[np.minimum(seen, 4095)],
                np.minimum(seen, 4) * 8,
                mean,
                np.broadcast_to(facts[:, None], (*shape[:2], PLACES)),
                np.broadcast_to(step[None, :, None], (*shape[:2], 1)),
            ],
            -1,
        )

    def _ranks(self, at: int | None) -> NDArray:
        return (np.arange(len(self.order)) if at is None else np.array([at]))[:, None, None]


@lru_cache(maxsize=8)
def places(port_shape: PortShape, delays: int) -> Places:
    """The :class:`Places` of an array and a band, made once."""
    return Places(port_shape, delays)


@lru_cache(maxsize=4096)
def _row(place: Places, at: int) -> csr_array:
    return place.sums[at * SUMS : (at + 1) * SUMS]
