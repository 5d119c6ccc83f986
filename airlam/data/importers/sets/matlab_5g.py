"""Channel estimates of the MATLAB 5G Toolbox."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from airlam.data.importers.sets.layout import Contents, Layout, LinkBlock, links_at_once
from airlam.data.importers.sets.matlab import MatVariable, looks_like, opened_variable, variable_names
from airlam.errors import StoreError
from airlam.recipes import check_number

AXES = "subcarrier, symbol, rx, tx, link"


class Matlab5G(Layout):
    """A complex variable ``[subcarrier, symbol, rx, tx]``, or with a fifth axis of links.

    These are the axes of what ``nrPerfectChannelEstimate`` and ``nrChannelEstimate`` return (MathWorks, 5G Toolbox,
    reference pages of the two functions). MATLAB drops last axes of length one, so 2 to 5 axes are taken. The first
    subcarrier is the lowest. The signs are those of TR 38.901, which agree with airlam's: ``nrCDLChannel`` and
    ``nrTDLChannel`` advance phases with a positive Doppler shift, and the response of a delay is ``-2 pi f delay``.
    Transmit antennas of ``nrCDLChannel`` are counted over rows, then columns, then polarisations (property
    ``TransmitAntennaArray``), which is airlam's order of ports.

    A slot of airlam is one symbol of the file, or every ``every``-th: 14 takes one in each slot of NR. ``--slot-s`` is
    the time between two symbols that are taken.

    Args:
        variable: the variable, if there are several or its name is not ``hest``, ``hEst`` or ``estChannelGrid``.
        every: take each so-many-th symbol, from the first.
        slots: cut what remains into links of so many slots; a rest is left out. Default: one link.
    """

    name = "matlab-5g"
    options = ("variable", "every", "slots")
    variables = ("hest", "hEst", "estChannelGrid")

    def __init__(self, variable: str | None = None, every: int = 1, slots: int | None = None) -> None:
        self.variable = variable
        self.every = check_number("--every", every, 1, 10**6, integer=True)
        self.slots = None if slots is None else check_number("--slots", slots, 1, 10**6, integer=True)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return looks_like(path, lambda name: name in cls.variables)

    @contextmanager
    def open(self, path: Path) -> Iterator[Contents]:
        names = variable_names(path)
        found = [n for n in names if n in self.variables] if self.variable is None else [self.variable]
        if len(found) != 1 or found[0] not in names:
            wanted = self.variable or " or ".join(self.variables)
            raise StoreError(
                f"{path}: layout matlab-5g expects one variable {wanted}, found {', '.join(names) or 'none'}; "
                "say which with --variable NAME"
            )
        with opened_variable(path, found[0], (2, 3, 4, 5), AXES) as csi:
            full = (*csi.shape, 1, 1, 1)[:5]
            tones, symbols, rx, tx, entries = full
            taken = -(-symbols // self.every)
            slots = taken if self.slots is None else self.slots
            cuts = taken // slots
            if not cuts:
                raise StoreError(f"{csi.title} has {taken} slots, fewer than --slots {slots}; give fewer")
            shape = (entries * cuts, slots, tones, rx, tx)
            left = taken - cuts * slots
            notes = (f"the last {left} of {taken} slots of each link were left out",) if left else ()
            yield Contents(shape, lambda: self._blocks(csi, full, shape), (path,), {}, cuts, notes)

    def _blocks(self, csi: MatVariable, full: tuple[int, ...], shape: tuple[int, ...]) -> Iterator[LinkBlock]:
        """Whole entries of the axis of links if they are small, else some cuts of one."""
        entries, slots = full[4], shape[1]
        cuts = shape[0] // entries
        pieces = links_at_once(shape)
        for start in range(0, entries, max(1, pieces // cuts)):
            stop = min(start + max(1, pieces // cuts), entries)
            for cut in range(0, cuts, min(cuts, pieces)):
                last = min(cut + min(cuts, pieces), cuts)
                h = self._symbols(csi, full, range(cut * slots, last * slots), slice(start, stop))
                yield LinkBlock(np.ascontiguousarray(h.transpose(4, 1, 0, 2, 3)).reshape(-1, *shape[1:]))

    def _symbols(self, csi: MatVariable, full: tuple[int, ...], taken: range, entries: slice) -> np.ndarray:
        """``[subcarrier, slot, rx, tx, link]`` of the slots that are taken; symbols between them are dropped early."""
        tones, _, rx, tx, _ = full
        at_once = links_at_once((1, tones, self.every, rx, tx, entries.stop - entries.start))
        parts = []
        for first in range(taken.start, taken.stop, at_once):
            stop = min(first + at_once, taken.stop)
            symbols = slice(first * self.every, (stop - 1) * self.every + 1)
            index = (slice(0, tones), symbols, slice(0, rx), slice(0, tx), entries)
            part = csi.part(index[: len(csi.shape)])
            parts.append(part.reshape((*part.shape, 1, 1, 1)[:5])[:, :: self.every])
        return np.concatenate(parts, axis=1)
