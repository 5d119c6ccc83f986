"""Joules and gCO2e of a training step, per device and phase: of a modelled trace; measured where a host has a counter.

A device draws its idle power all the time, its computing power on top while it computes, its amplifier's while it
sends, and the rest of its radio while it sends or receives. Every instant belongs to one phase: *compute* while it
computes, else *send* while its radio is on, else *wait*; the radio's own power counts as *send* whenever it is on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from airlam.resources import Device

PHASES = ("compute", "send", "wait")
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Span:
    """What one rank does between ``start`` and ``stop`` [s]: ``compute``, ``send``, ``receive`` or ``wait``.

    ``what`` says more: the part of the model or the collective.
    """

    rank: int
    phase: str
    start: float
    stop: float
    what: str = ""


@dataclass
class Energy:
    """Joules by rank and phase.

    Attributes:
        joules: rank -> phase -> J. measured: read from a counter (else modelled).
    """

    joules: list[dict[str, float]]
    measured: bool = False

    @property
    def total(self) -> float:
        """Of all ranks and phases."""
        return sum(sum(phases.values()) for phases in self.joules)

    def phase(self, name: str) -> float:
        """Of one phase, all ranks."""
        return sum(phases.get(name, 0.0) for phases in self.joules)

    def grams(self, grid_intensity: float) -> float:
        """gCO2e at a grid intensity in gCO2e/kWh."""
        return grams(self.total, grid_intensity)


def grams(joules: float, grid_intensity: float) -> float:
    """gCO2e of so many joules at a grid intensity in gCO2e/kWh.

    Example:
        >>> grams(3.6e6, 400.0)
        400.0
    """
    return joules / JOULES_PER_KWH * grid_intensity


def radio_watts(device: Device, sends: bool, receives: bool) -> float:
    """Power of the radio, above idle."""
    if sends:
        return device.transmit_joules(1.0)
    return device.receive_joules(1.0) if receives else 0.0


def power(trace: Sequence[Span], device: Device, rank: int, times: np.ndarray) -> np.ndarray:
    """Watts that a rank draws at ``times`` [s]."""

    def inside(*phases: str) -> np.ndarray:
        found = np.zeros(len(times), bool)
        for span in trace:
            if span.rank == rank and span.phase in phases:
                found |= (times >= span.start) & (times < span.stop)
        return found

    sends, receives = inside("send"), inside("receive")
    radio = np.where(sends, radio_watts(device, True, False), np.where(receives, radio_watts(device, False, True), 0.0))
    return device.idle_watts + device.compute_watts * inside("compute") + radio


def modelled(trace: Sequence[Span], devices: Sequence[Device], seconds: float) -> Energy:
    """The integral of the power over ``seconds``, in closed form.

    Args:
        devices: of the ranks.
    """
    out = []
    for rank, device in enumerate(devices):
        own = [span for span in trace if span.rank == rank]
        computes = merged((s.start, s.stop) for s in own if s.phase == "compute")
        sends = merged((s.start, s.stop) for s in own if s.phase == "send")
        receives = merged((s.start, s.stop) for s in own if s.phase == "receive")
        on = merged([*sends, *receives])
        computing, sending, radio = length(computes), length(sends), length(on)
        busy = length(merged([*computes, *on]))
        out.append(
            phase_joules(
                device, seconds, computing=computing, sending=sending, radio=radio, radio_alone=busy - computing
            )
        )
    return Energy(out)


def phase_joules(
    device: Device, seconds: float, *, computing: float, sending: float, radio: float, radio_alone: float
) -> dict[str, float]:
    """Joules by phase from the seconds that a device computes, sends, has its radio on, and has it on without
    computing."""
    transmits = sending * (radio_watts(device, True, False) - radio_watts(device, False, True))
    return {
        "compute": computing * (device.idle_watts + device.compute_watts),
        "send": radio_alone * device.idle_watts + transmits + radio * radio_watts(device, False, True),
        "wait": (seconds - computing - radio_alone) * device.idle_watts,
    }


def merged(spans: Sequence[tuple[float, float]] | Iterator[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans that overlap as one.

    Example:
        >>> merged([(2, 3), (0, 1), (0.5, 1.5)])
        [(0, 1.5), (2, 3)]
    """
    out: list[tuple[float, float]] = []
    for start, stop in sorted(spans):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], stop))
        elif stop > start:
            out.append((start, stop))
    return out


def length(spans: Sequence[tuple[float, float]]) -> float:
    """Of all spans together."""
    return sum(stop - start for start, stop in spans)


@dataclass
class Meter:
    """What a counter of the host's energy read over a while.

    Attributes:
        source: ``rapl``, ``nvml``, or None where the host has neither. joules: None without a counter.
        seconds: how long it ran.
    """

    source: str | None = None
    joules: float | None = None
    seconds: float = 0.0
    _read: Callable[[], float] | None = field(default=None, repr=False)


@contextmanager
def host_energy() -> Iterator[Meter]:
    """Measure what the whole host draws meanwhile: RAPL (Linux, readable by root only on most systems), else NVML.

    Example:
        >>> with host_energy() as meter:
        ...     _ = sum(range(1000))
        >>> meter.seconds > 0
        True
    """
    meter = Meter()
    for source, find in (("rapl", _rapl), ("nvml", _nvml)):
        read = find()
        if read is not None:
            meter.source, meter._read = source, read
            break
    before = meter._read() if meter._read else 0.0
    start = time.perf_counter()
    try:
        yield meter
    finally:
        meter.seconds = time.perf_counter() - start
        if meter._read:
            meter.joules = meter._read() - before


def _rapl(root: Path = Path("/sys/class/powercap")) -> Callable[[], float] | None:
    """Joules of all processor packages since some time ago; counters that run over are followed."""
    zones = sorted(path for path in root.glob("intel-rapl:*") if path.name.count(":") == 1)
    last: dict[Path, float] = {}
    over: dict[Path, float] = {}

    def read() -> float:
        total = 0.0
        for zone in zones:
            now = float((zone / "energy_uj").read_text())
            if now < last.get(zone, 0.0):
                over[zone] = over.get(zone, 0.0) + float((zone / "max_energy_range_uj").read_text())
            last[zone] = now
            total += now + over.get(zone, 0.0)
        return total / 1e6

    try:
        return read if zones and read() > 0 else None
    except (OSError, ValueError):
        return None


def _nvml() -> Callable[[], float] | None:
    """Joules of all NVIDIA GPUs since their driver was loaded."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        if not handles:
            return None

        def read() -> float:
            return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(one) for one in handles) / 1e3

        read()
        return read
    except Exception:  # no package, no driver, no device, or a device without this counter
        return None
