"""Edge devices: how fast they compute, how much they hold, what they draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from airlam.errors import RecipeError
from airlam.recipes import as_number, nearest


@dataclass(frozen=True)
class Device:
    """A device that trains at the edge. All figures derived from it are *modelled*.

    Attributes:
        name: of the profile.
        flops_per_second: sustained single-precision operations of a training step, not the peak of a data sheet.
        memory_bytes: what training may use.
        compute_watts: drawn while computing, above idle.
        transmit_dbm: radiated power; 23 dBm is power class 3 (TS 38.101-1 clause 6.2.1).
        amplifier_efficiency: radiated over drawn power of the amplifier.
        radio_watts: drawn by the rest of the radio while it sends or receives.
        idle_watts: drawn all the time, also while the device waits for others; 0: not counted. Only the model of a
            pool that trains one model together (:mod:`airlam.edge.parallel.cost_model.energy`) counts it.

    Example:
        >>> phone = device("phone")
        >>> round(phone.compute_seconds(4e9), 2), round(phone.compute_joules(4e9), 2)
        (0.2, 0.8)
    """

    name: str
    flops_per_second: float
    memory_bytes: float
    compute_watts: float
    transmit_dbm: float = 23.0
    amplifier_efficiency: float = 0.3
    radio_watts: float = 0.5
    idle_watts: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "name":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise RecipeError(f"device {self.name}: {field.name} is {value!r}, but must be a number")
            if field.name == "idle_watts" and value == 0:
                continue
            if field.name != "transmit_dbm" and not 0 < value < float("inf"):
                raise RecipeError(f"device {self.name}: {field.name} is {value:g}, but must be positive and finite")
        if not -40 <= self.transmit_dbm <= 60:
            raise RecipeError(f"device {self.name}: transmit_dbm is {self.transmit_dbm:g}, but must be -40 to 60 dBm")
        if self.amplifier_efficiency > 1:
            raise RecipeError(
                f"device {self.name}: amplifier_efficiency is {self.amplifier_efficiency:g}, but at most 1 is possible"
            )

    def compute_seconds(self, flops: float) -> float:
        """Time of so many floating-point operations."""
        return flops / self.flops_per_second

    def compute_joules(self, flops: float) -> float:
        """Energy of so many floating-point operations."""
        return self.compute_watts * self.compute_seconds(flops)

    def transmit_joules(self, seconds: float) -> float:
        """Energy of sending for so long."""
        return seconds * (10 ** (self.transmit_dbm / 10 - 3) / self.amplifier_efficiency + self.radio_watts)

    def receive_joules(self, seconds: float) -> float:
        """Energy of receiving for so long."""
        return seconds * self.radio_watts


# Orders of magnitude: a tenth to a third of the peaks that makers publish for each class. Measure your own device and
# write its figures into the recipe where they matter. Idle: switched on, nothing to compute; a board of this class in
# its usual state (a single-board computer draws 2 to 3 W, a phone with its screen off under 1 W, a server with one
# accelerator 100 to 200 W; of a small cell only the computer, not the radio unit).
DEVICES = {
    one.name: one
    for one in (
        Device("sensor", 2e8, 64e6, 0.3, transmit_dbm=14.0, radio_watts=0.1, idle_watts=0.05),  # Cortex-M7 class
        Device("gateway", 4e9, 1e9, 4.0, idle_watts=2.5),  # four Cortex-A72 cores
        Device("phone", 2e10, 2e9, 4.0, idle_watts=0.5),
        Device("vehicle", 2e11, 8e9, 20.0, transmit_dbm=26.0, idle_watts=8.0),  # embedded GPU
        Device("small-cell", 1e11, 16e9, 30.0, transmit_dbm=30.0, idle_watts=20.0),  # a server CPU's few cores
        Device("edge-server", 5e12, 64e9, 300.0, transmit_dbm=44.0, idle_watts=150.0),  # one accelerator
    )
}


def device(spec: str | Mapping[str, Any]) -> Device:
    """A device by the name of its profile, or from fields; ``profile`` names one to start from.

    Example:
        >>> device({"profile": "phone", "memory_bytes": 1e9}).memory_bytes
        1000000000.0

    Raises:
        RecipeError: no such profile or field, or a value out of bounds.
    """
    if isinstance(spec, str):
        if spec not in DEVICES:
            raise RecipeError(f"no device {spec!r}{nearest(spec, DEVICES) or ';'} profiles: {', '.join(DEVICES)}")
        return DEVICES[spec]
    if not isinstance(spec, Mapping):
        raise RecipeError(f"a device is {spec!r}, but must be a profile's name or a mapping of fields")
    given = {key: value if key == "name" else as_number(value) for key, value in spec.items()}
    base = asdict(device(given.pop("profile"))) if "profile" in given else {"name": "device"}
    known = [field.name for field in fields(Device)]
    for key in given:
        if key not in known:
            raise RecipeError(
                f"a device has no field {key!r}{nearest(str(key), known) or ';'} fields: {', '.join(known)}"
            )
    try:
        return Device(**{**base, **given})
    except TypeError:
        missing = [
            name for name in ("flops_per_second", "memory_bytes", "compute_watts") if name not in {**base, **given}
        ]
        raise RecipeError(f"a device without a profile must give {', '.join(missing)}") from None
