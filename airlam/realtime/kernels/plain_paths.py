"""The small sums of a stream of paths in NumPy; :mod:`airlam.realtime.kernels.compiled_paths` has the same, compiled.

The large products (a slot with the paths' waves along subcarriers, the synthesis) are NumPy's in either case.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def analyse(along_tones: NDArray, space: NDArray, row: NDArray, seen: NDArray) -> None:
    """Move the lines' window on by one slot, and put the newest in its last place.

    Args:
        along_tones: ``complex64 [row, gain * port]``, conjugate of the slot correlated along subcarriers.
        space: ``complex64 [line, port]``. row: ``int32 [line]``, of ``along_tones``.
        seen: ``complex64 [line, gain, slot]``, updated.
    """
    each = along_tones.reshape(len(along_tones), seen.shape[1], -1)[row]
    seen[..., :-1] = seen[..., 1:]
    seen[..., -1] = np.matmul(each, space[..., None])[..., 0].conj()


def correlate(seen: NDArray, owner: NDArray, past: NDArray, data: NDArray) -> None:
    """What the window says of each atom: ``sum over slots of seen[owner[atom], gain] * past[atom]``.

    Args:
        seen: ``complex64 [line, gain, slot]``. owner: ``int32 [atom]``.
        past: ``float64 [2, atom, slot]``, real and imaginary part. data: ``float64 [2, gain, atom]``, written.
    """
    total = np.matmul(seen[owner], (past[0] + 1j * past[1])[..., None])[..., 0].T
    data[0], data[1] = total.real, total.imag


def solve(inverse: NDArray, data: NDArray, weight: NDArray) -> None:
    """``weight = inverse @ data``. Only the lower triangle is read: half the time of a general product, which is bound
    by memory.

    Args:
        inverse: ``float64 [2, atom, atom]``, real and imaginary part of a Hermitian matrix.
        data: ``float64 [2, gain, atom]``. weight: the same, written.
    """
    (real, imag), (x, y) = inverse, data
    weight[0], weight[1] = x @ real.T - y @ imag.T, y @ real.T + x @ imag.T


def spread(
    weight: NDArray,
    ahead: NDArray,
    owner: NDArray,
    space: NDArray,
    row: NDArray,
    series: NDArray,
    turned: NDArray,
    rows: NDArray,
) -> None:
    """From weights of atoms to what each wave along subcarriers carries.

    Args:
        weight: ``float64 [2, gain, atom]``, real and imaginary part. ahead: ``complex64 [atom, slot]``.
        owner: ``int32 [atom]``, rising, every line at least once. space: ``complex64 [line, port]``.
        row: ``int32 [line]``, rising, every row at least once.
        series: ``complex64 [line, gain, slot]``, written: what the lines' series will be.
        turned: ``float32 [2 * port]``, scratch.
        rows: ``complex64 [slot, row, gain * port]``, written.
    """
    each = (weight[0] + 1j * weight[1]).T.astype(np.complex64)[..., None] * ahead[:, None]
    series[...] = np.add.reduceat(each, np.searchsorted(owner, np.arange(len(series))))
    carried = (series.transpose(2, 0, 1)[..., None] * space[:, None]).reshape(len(rows), len(space), -1)
    rows[...] = np.add.reduceat(carried, np.searchsorted(row, np.arange(rows.shape[1])), axis=1)
