"""From a recording to windows: a history, the packets that follow, and when."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from airlam.csi import turn_to_last
from airlam.data.importers import Recording, align, windows
from airlam.evaluation.benchmarks.measured.config import MeasuredSizes, View

BREAK = 8  # spacings without a packet that end a run of the regular grid


@dataclass(frozen=True)
class Windows:
    """Windows of consecutive packets.

    Attributes:
        past, future: ``[window, packet, tone, rx_ant, tx_ant]``.
        at: place in the recording of each window's first target, ``int64 [window]``.
        observed: ``bool [window, packet]``: False where the history's packet is missing and was filled in; ``None``:
            all were received.
    """

    past: Tensor
    future: Tensor
    at: Tensor
    observed: Tensor | None = None

    def __len__(self) -> int:
        return len(self.past)


def viewed(recording: Recording, view: View, sizes: MeasuredSizes) -> Recording:
    """The recording with those offsets removed that the view removes, and mean power 1."""
    if view.align:
        recording = align(recording, sizes.reference, timing=view.timing, gain=view.gain)
    power = recording.csi[: sizes.reference].abs().square().mean()
    return replace(recording, csi=recording.csi / power.sqrt())


def halves(recording: Recording, view: View, sizes: MeasuredSizes) -> tuple[Windows, Windows]:
    """Windows that tune, of the first half of the packets, and windows that score, of the rest after the guard gap."""
    seen, half = viewed(recording, view, sizes), len(recording.csi) // 2
    return cut(seen, slice(0, half), view, sizes), cut(seen, slice(half + sizes.guard, None), view, sizes)


def cut(seen: Recording, part: slice, view: View, sizes: MeasuredSizes) -> Windows:
    """Windows of a part of the packets."""
    csi, first = seen.csi[part], part.start
    if view.grid and seen.time_s is not None:
        return _on_grid(csi, seen.time_s[part], spacing(seen.time_s), first, sizes)
    past, future = windows(csi, sizes.history, sizes.horizon, sizes.step)
    past = turn_to_last(past) if view.turn else past
    return Windows(past, future, first + sizes.history + sizes.step * torch.arange(len(past)))


def spacing(time_s: Tensor) -> float:
    """The median time between packets [s]."""
    return float(time_s.diff().median())


def is_regular(time_s: Tensor) -> bool:
    """Whether 99 of 100 packets follow the one before within a tenth of the median spacing."""
    apart = time_s.diff()
    return bool(((apart - apart.median()).abs() <= 0.1 * apart.median()).double().mean() >= 0.99)


def _on_grid(csi: Tensor, time_s: Tensor, step_s: float, first: int, sizes: MeasuredSizes) -> Windows:
    """Windows on a regular grid: each slot holds the packet that arrived nearest to it, at most half a spacing away.

    Targets are received packets, never interpolated ones. Missing slots of a history are interpolated between received
    ones of the same history; histories whose first or last slot is missing are left out, and so are those with fewer
    than half of their packets. Where times go back, or no packet came for :data:`BREAK` spacings, a new grid starts.
    """
    apart = time_s.diff()
    ends = [0, *(torch.nonzero((apart <= 0) | (apart > BREAK * step_s)).flatten() + 1).tolist(), len(csi)]
    parts = [_run(csi[a:b], time_s[a:b], step_s, first + a, sizes) for a, b in zip(ends[:-1], ends[1:], strict=True)]
    past, future, at, observed = (torch.cat(each) for each in zip(*parts, strict=True))
    return Windows(past, future, at, observed)


def _run(csi: Tensor, time_s: Tensor, step_s: float, first: int, sizes: MeasuredSizes) -> tuple[Tensor, ...]:
    """Windows of packets whose times rise without a break: past, future, place, observed."""
    place = (time_s - time_s[0]) / step_s
    slots = int(place[-1].round()) + 1
    late = (place - place.round()).abs()
    source = torch.full((slots,), -1)
    for packet in torch.argsort(late, descending=True).tolist():  # the nearest packet is written last
        source[int(place[packet].round())] = packet
    if slots < sizes.window:
        shape = (0, 0, *csi.shape[1:])
        empty = torch.zeros(0, dtype=torch.int64)
        return (
            csi.new_zeros(0, sizes.history, *shape[2:]),
            csi.new_zeros(0, sizes.horizon, *shape[2:]),
            empty,
            torch.zeros(0, sizes.history, dtype=torch.bool),
        )
    known = torch.nonzero(source >= 0).flatten()
    slot = torch.arange(slots)
    right = torch.searchsorted(known, slot).clamp(max=len(known) - 1)
    left = torch.where(known[right] == slot, right, (right - 1).clamp(min=0))
    a, b = known[left], known[right]
    share = ((slot - a) / (b - a).clamp(min=1)).to(csi.real.dtype)[:, None, None, None]
    filled = (1 - share) * csi[source[a]] + share * csi[source[b]]
    found = (source >= 0).unfold(0, sizes.window, sizes.step)
    past, future = windows(filled, sizes.history, sizes.horizon, sizes.step)
    seen, wanted = found[:, : sizes.history], found[:, sizes.history :]
    kept = wanted.all(1) & seen[:, 0] & seen[:, -1] & (2 * seen.sum(1) >= sizes.history)
    start = sizes.history + sizes.step * torch.arange(len(past))
    return past[kept], future[kept], first + source[start[kept]], seen[kept]


def blocks_of(at: Tensor, first: int, last: int, sizes: MeasuredSizes) -> Tensor:
    """The block in time of each place in the recording, among ``sizes.blocks`` at most, none shorter than a window."""
    count = max(1, min(sizes.blocks, (last - first) // sizes.window))
    return ((at - first) * count // (last - first)).clamp(0, count - 1)
