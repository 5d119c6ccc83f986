r"""Adapters in eight bits on the wire: ``wire: int8``.

Each adapter matrix travels as one ``int8`` array. A row ``x`` (of the shorter axis: one for each rank) is sent as
``q = floor(x / s + u)`` with the scale ``s = max|x| / 127`` and ``u`` uniform in [0, 1): stochastic rounding, whose
error is below ``s`` and has mean zero (QSGD, arXiv 1610.02132). The four bytes of ``s`` stand before the row's values.

Down, the server rounds its adapters anew in each round and keeps the exact ones. Up, a device sends the *change* from
what it received, and the server adds it to its exact adapters: no rounding error of the way down stays in the model.
What the rounding of the way up leaves out is kept on the device and added to its next change (error feedback, arXiv
1901.09847), where the factors of two rounds are the same coordinates (``Scheme.keeps_factors``).
"""

from __future__ import annotations

import numpy as np

from airlam.edge.federated.adapters import Arrays

WIRES = ("float32", "int8")
LEVELS = 127
SCALE_BYTES = 4
HEADER_BYTES = 128  # NumPy's, of each array


def encode(arrays: Arrays, seed: int) -> Arrays:
    """Matrices as ``int8 [row, 4 + column]``, named ``name|axis`` after the axis that the rows are of.

    Args:
        arrays: ``float32 [m, n]`` each. Rows that are not finite get a scale of NaN, which :func:`decode` refuses.
        seed: of the rounding.

    Raises:
        ValueError: an array is no matrix.

    Example:
        >>> sent = encode({"B/x": np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)}, seed=1)
        >>> {name: value.shape for name, value in sent.items()}
        {'B/x|1': (2, 8)}
    """
    rng, coded = np.random.default_rng(seed), {}
    for name, value in arrays.items():
        if value.ndim != 2:
            raise ValueError(f"{name} has {value.ndim} axes, but 8 bits are for matrices; take wire float32")
        axis = int(value.shape[0] > value.shape[1])
        rows = np.moveaxis(value, axis, 0).astype(np.float64)
        scale = (np.abs(rows).max(1, initial=0.0) / LEVELS).astype(np.float32)
        finite = np.isfinite(scale)
        unit = np.where(finite & (scale > 0), scale, 1.0).astype(np.float64)[:, None]
        levels = np.floor(np.where(finite[:, None], rows, 0.0) / unit + rng.random(rows.shape))
        whole = np.clip(levels, -LEVELS, LEVELS).astype(np.int8)
        front = np.where(finite, scale, np.nan).astype("<f4").view(np.int8).reshape(-1, SCALE_BYTES)
        coded[f"{name}|{axis}"] = np.ascontiguousarray(np.concatenate([front, whole], 1))
    return coded


def decode(coded: Arrays) -> Arrays:
    """The matrices, ``float32``; of :func:`encode`.

    Raises:
        ValueError: an array is of another type or form, or a scale is not finite or below 0.
    """
    arrays = {}
    for label, value in coded.items():
        name, _, axis = label.rpartition("|")
        if not name or axis not in ("0", "1"):
            raise ValueError(f"its {label!r} is no name of an 8-bit array, like 'A/layer|0'")
        if value.dtype != np.int8:
            raise ValueError(f"its {name} is of type {value.dtype}, not int8")
        if value.ndim != 2 or value.shape[1] <= SCALE_BYTES:
            raise ValueError(f"its {name} has shape {value.shape}, not [row, {SCALE_BYTES} + column]")
        scale = np.ascontiguousarray(value[:, :SCALE_BYTES]).view("<f4")
        if not (np.isfinite(scale).all() and (scale >= 0).all() and (scale <= np.finfo(np.float32).max / 256).all()):
            raise ValueError(f"its {name} has a scale that is not finite, or below 0")
        arrays[name] = np.ascontiguousarray(np.moveaxis(value[:, SCALE_BYTES:] * scale, 0, int(axis)))
    return arrays


def encode_change(after: Arrays, before: Arrays, rest: Arrays, seed: int) -> tuple[Arrays, Arrays]:
    """The change of a round as it is sent, and what its rounding leaves for the next one.

    Args:
        after, before: the device's adapters. An array of another shape (a broken device's) is coded as it is.
        rest: what earlier rounds left; empty: nothing.

    Example:
        >>> one, zero = {"A/x": np.full((1, 3), 0.1, np.float32)}, {"A/x": np.zeros((1, 3), np.float32)}
        >>> sent, rest = encode_change(one, zero, {}, seed=0)
        >>> bool(np.allclose(decode(sent)["A/x"] + rest["A/x"], 0.1))
        True
    """
    change = {}
    for name, value in after.items():
        fits = value.shape == before[name].shape
        change[name] = value - before[name] if fits else value
        if fits and name in rest and rest[name].shape == value.shape:
            change[name] = change[name] + rest[name]
    sent = encode(change, seed)
    if not all(np.isfinite(value).all() for value in change.values()):
        return sent, {}  # the server refuses it; nothing of it is worth keeping
    told = decode(sent)
    return sent, {name: value - told[name] for name, value in change.items()}


def wire_bytes(arrays: Arrays, wire: str = "float32") -> int:
    """Bytes of float32 arrays when they are sent on a ``wire``, one of :data:`WIRES`.

    With float32 four for each value and NumPy's header of 128 for each array; with int8 one for each value and four for
    each row of the shorter axis.
    """
    if wire == "float32":
        return sum(4 * value.size + HEADER_BYTES for value in arrays.values())
    return sum(value.size + SCALE_BYTES * min(value.shape) + HEADER_BYTES for value in arrays.values())
