"""Channels that Sionna 1 and 2 compute, saved as arrays: frequency responses, or path gains and delays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from airlam.data.importers.sets.layout import Contents, Layout, LinkBlock, links_at_once
from airlam.data.importers.sets.stored import SUFFIXES, Stored, array_shapes, has_arrays, opened_array
from airlam.errors import RecipeError, StoreError
from airlam.recipes import check_number

CFR_AXES = "batch, rx, rx_ant, tx, tx_ant, slot, subcarrier"
CIR_AXES = "batch, rx, rx_ant, tx, tx_ant, path, slot"
TAU_AXES = "batch, rx, tx, path, or with rx_ant and tx_ant"


class Sionna(Layout):
    """Arrays of a ``.npz`` or ``.h5`` with the axes that Sionna 2 returns.

    Either ``h [batch, rx, rx_ant, tx, tx_ant, slot, subcarrier]``, as ``cir_to_ofdm_channel`` gives it, or
    ``a [batch, rx, rx_ant, tx, tx_ant, path, slot]`` with ``tau [batch, rx, tx, path]`` or
    ``tau [batch, rx, rx_ant, tx, tx_ant, path]``, as channel models give them (documentation of Sionna PHY,
    ``sionna/phy/channel/utils.py``). What ``sionna.rt.Paths.cir`` and ``cfr`` return has no batch axis and is taken
    too. Path gains become ``sum_p a_p exp(-j 2 pi f tau_p)`` on ``subcarriers`` frequencies, ``f = 0`` at the carrier,
    as ``subcarrier_frequencies`` counts them. Signs and ports are airlam's. Links run over batch, rx, tx.

    Args:
        variable: the array of the frequency response, if its name is neither ``h``, ``h_freq`` nor ``cfr``.
        subcarriers: how many, for path gains.
    """

    name = "sionna"
    options = ("variable", "subcarriers")
    variables = ("h", "h_freq", "cfr")

    def __init__(self, variable: str | None = None, subcarriers: int | None = None) -> None:
        self.variable = variable
        self.subcarriers = (
            None if subcarriers is None else check_number("--subcarriers", subcarriers, 1, 10**5, integer=True)
        )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        if path.suffix == ".mat":
            return False
        cfr = any(has_arrays(path, **{name: (6, 7)}) for name in cls.variables)
        return cls._is_gains(path) or (cfr and not has_arrays(path, h=(6,), shape=(1,)))  # which is PilotWiMAE's

    @staticmethod
    def _is_gains(path: Path) -> bool:
        return has_arrays(path, a=(6, 7), tau=(3, 4, 5, 6))

    @contextmanager
    def open(self, path: Path) -> Iterator[Contents]:
        if path.suffix not in SUFFIXES or path.suffix == ".mat":
            raise StoreError(f"{path}: layout sionna expects a .npz or .h5 file, found '{path.suffix or 'no suffix'}'")
        with ExitStack() as stack:
            if self.variable is None and self._is_gains(path):
                yield self._gains(path, stack)
                return
            there = array_shapes(path)
            names = [name for name in self.variables if name in there] if self.variable is None else [self.variable]
            if len(names) != 1:
                raise StoreError(
                    f"{path}: layout sionna expects a [{CIR_AXES}] and tau, or one of {', '.join(self.variables)} "
                    f"[{CFR_AXES}], found {', '.join(there) or 'no array'}; --variable NAME names a frequency response"
                )
            if self.subcarriers is not None:
                raise RecipeError("--subcarriers is for path gains (a, tau); a frequency response has its own")
            h = stack.enter_context(opened_array(path, names[0], (6, 7), CFR_AXES, self.scratch))
            _check_complex(h, CFR_AXES)
            batch, rx, rx_ant, tx, tx_ant, slots, tones = full = _seven(h.shape)
            shape = (batch * rx * tx, slots, tones, rx_ant, tx_ant)

            def blocks() -> Iterator[LinkBlock]:
                for part in h.rows(_rows_at_once(h.shape, shape)):
                    links = part.reshape(-1, *full[1:]).transpose(0, 1, 3, 5, 6, 2, 4)
                    yield LinkBlock(_complex64(links).reshape(-1, *shape[1:]))

            yield Contents(shape, blocks, (path,), links_per_drop=rx * tx if len(h.shape) == 7 else 1)

    def _gains(self, path: Path, stack: ExitStack) -> Contents:
        """Path gains and delays, a frequency response block by block."""
        a = stack.enter_context(opened_array(path, "a", (6, 7), CIR_AXES, self.scratch))
        ranks = (len(a.shape) - 3, len(a.shape) - 1)
        tau = stack.enter_context(opened_array(path, "tau", ranks, TAU_AXES, self.scratch))
        _check_complex(a, CIR_AXES)
        batch, rx, rx_ant, tx, tx_ant, paths, slots = full = _seven(a.shape)
        each = len(tau.shape) == ranks[1]  # a delay for each pair of antennas
        expected = (*a.shape[:-6], *((*a.shape[-6:-2],) if each else (a.shape[-6], tx)), paths)
        if tau.shape != expected or tau.dtype.kind not in "fiu":
            raise StoreError(f"{tau.title} is {tau.dtype} {list(tau.shape)}, but a needs real {list(expected)}")
        spacing = self.description.subcarrier_spacing_hz
        if self.subcarriers is None or spacing is None:
            raise RecipeError(f"{path} holds path gains; give --subcarriers and --subcarrier-spacing-hz")
        frequencies = centred(self.subcarriers, spacing)
        shape = (batch * rx * tx, slots, self.subcarriers, rx_ant, tx_ant)

        def blocks() -> Iterator[LinkBlock]:
            # Delays of all pairs of antennas make the largest intermediate: [.., path, subcarrier].
            step = min(_rows_at_once(a.shape, shape), links_at_once((1, *tau.shape[1:], len(frequencies))))
            for gains, delays in zip(a.rows(step), tau.rows(step), strict=True):
                gains = _complex64(gains.reshape(-1, *full[1:]))
                pairs = (rx, rx_ant, tx, tx_ant) if each else (rx, 1, tx, 1)
                delays = delays.astype(np.float64).reshape(-1, *pairs, paths)
                turn = np.exp(-2j * np.pi * delays[..., None] * frequencies).astype(np.complex64)
                # [batch, rx, rx_ant, tx, tx_ant, slot, path] @ [.., path, subcarrier]
                h = np.matmul(np.swapaxes(gains, -1, -2), turn)
                yield LinkBlock(h.transpose(0, 1, 3, 5, 6, 2, 4).reshape(-1, *shape[1:]))

        return Contents(shape, blocks, (path,), links_per_drop=rx * tx if len(a.shape) == 7 else 1)


def centred(subcarriers: int, spacing_hz: float) -> np.ndarray:
    """Frequencies in Hz relative to the carrier, as Sionna's ``subcarrier_frequencies``: 0 at index ``n // 2``."""
    return (np.arange(subcarriers) - subcarriers // 2) * spacing_hz


def _seven(shape: tuple[int, ...]) -> tuple[int, ...]:
    """With seven axes: where there is no batch, the receivers are one."""
    return shape if len(shape) == 7 else (shape[0], 1, *shape[1:])


def _rows_at_once(stored: tuple[int, ...], link: tuple[int, ...]) -> int:
    """How many entries of the first axis of an array are read at once, for what is read and what comes out of it."""
    links_per_row = max(1, link[0] // stored[0])
    return min(links_at_once(stored), max(1, links_at_once(link) // links_per_row))


def _check_complex(array: Stored, meaning: str) -> None:
    if array.dtype.kind != "c":
        raise StoreError(f"{array.title} is {array.dtype}, but must be complex [{meaning}]")


def _complex64(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what overflows becomes infinite, which is refused later
        return array.astype(np.complex64, order="C")
