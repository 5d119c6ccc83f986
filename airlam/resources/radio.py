"""The radio link between a device and its edge server: path loss, fading, bandwidth share, outage, rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from airlam.constants import SPEED_OF_LIGHT, THERMAL_NOISE_DBM_PER_HZ
from airlam.errors import RecipeError

# TR 38.901 table 7.4.1-1: default heights [m] of base station and user, and the shadowing's standard deviation [dB].
HEIGHTS = {"umi": (10.0, 1.5), "uma": (25.0, 1.5)}
SHADOWING_DB = {("umi", "los"): 4.0, ("umi", "nlos"): 7.82, ("uma", "los"): 4.0, ("uma", "nlos"): 6.0}
# TR 36.942 annex A.2: a link's rate as a share of Shannon's, between the SNR where it starts and its highest rate.
SHARE = {"up": 0.4, "down": 0.6}
HIGHEST = {"up": 2.0, "down": 4.4}  # bit/s/Hz
LOWEST_SNR_DB = -10.0


def path_loss_db(scenario: str, state: str, distance: float, carrier_frequency: float) -> float:
    """Path loss [dB] of UMi or UMa, TR 38.901 table 7.4.1-1 (V17), without shadowing.

    Args:
        scenario: ``umi`` or ``uma``. state: ``los`` or ``nlos``.
        distance: along the ground [m], 10 to 5000.
        carrier_frequency: 0.5e9 to 100e9 Hz.

    Example:
        >>> round(path_loss_db("umi", "nlos", 100.0, 3.5e9), 1)
        104.6
    """
    if (scenario, state) not in SHADOWING_DB:
        known = ", ".join(" ".join(pair) for pair in SHADOWING_DB)
        raise RecipeError(f"no path loss for {scenario!r} {state!r}; there is one for {known}")
    if not 10 <= distance <= 5000:
        raise RecipeError(f"distance is {distance:g}, but must be between 10 and 5000 m (TR 38.901 table 7.4.1-1)")
    if not 0.5e9 <= carrier_frequency <= 100e9:
        raise RecipeError(f"carrier_frequency is {carrier_frequency:g}, but must be between 5e+08 and 1e+11 Hz")
    high, low = HEIGHTS[scenario]
    ghz = carrier_frequency / 1e9
    d3 = math.hypot(distance, high - low)
    # the break point, with an effective environment height of 1 m (the table's note 1)
    breakpoint_ = 4 * (high - 1) * (low - 1) * carrier_frequency / SPEED_OF_LIGHT
    slope, base, far = (21.0, 32.4, 9.5) if scenario == "umi" else (22.0, 28.0, 9.0)
    if distance <= breakpoint_:
        los = base + slope * math.log10(d3) + 20 * math.log10(ghz)
    else:
        correction = far * math.log10(breakpoint_**2 + (high - low) ** 2)
        los = base + 40 * math.log10(d3) + 20 * math.log10(ghz) - correction
    if state == "los":
        return los
    if scenario == "umi":
        nlos = 35.3 * math.log10(d3) + 22.4 + 21.3 * math.log10(ghz) - 0.3 * (low - 1.5)
    else:
        nlos = 13.54 + 39.08 * math.log10(d3) + 20 * math.log10(ghz) - 0.6 * (low - 1.5)
    return max(los, nlos)


@dataclass(frozen=True)
class Cell:
    """One base station with the edge server behind it, and the band that training may use.

    Attributes:
        scenario, state: of the path loss, see :func:`path_loss_db`.
        carrier_frequency: Hz. bandwidth: Hz, shared by the devices of a round; up and down each have as much.
        transmit_dbm: of the base station over the whole band. antenna_gain_db: of its array towards a device.
        noise_figure_db, device_noise_figure_db: of the receivers.
        diversity: independent fades that the band and the antennas average: the power of a fade is Gamma distributed
            with this shape and mean 1; 1 is Rayleigh fading.
        shadowing: whether each device has its own shadowing.
    """

    scenario: str = "umi"
    state: str = "nlos"
    carrier_frequency: float = 3.5e9
    bandwidth: float = 20e6
    transmit_dbm: float = 44.0
    antenna_gain_db: float = 17.0
    noise_figure_db: float = 5.0
    device_noise_figure_db: float = 9.0
    diversity: float = 4.0
    shadowing: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if field.type == "float" and not number:
                raise RecipeError(f"cell: {field.name} is {value!r}, but must be a finite number")
            if field.type == "bool" and not isinstance(value, bool):
                raise RecipeError(f"cell: {field.name} is {value!r}, but must be true or false")
        for name in ("bandwidth", "diversity"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"cell: {name} is {getattr(self, name)!r}, but must be positive")
        path_loss_db(self.scenario, self.state, 100.0, self.carrier_frequency)


@dataclass(frozen=True)
class RadioLink:
    """One device's link in one round: its gains are linear powers, fading included.

    Attributes:
        up_gain, down_gain: of the path, antennas, shadowing and this round's fade.
        transmit_watts: of the device. cell: the other end.
    """

    cell: Cell
    transmit_watts: float
    up_gain: float
    down_gain: float

    def snr(self, direction: str, bandwidth: float | np.ndarray) -> float | np.ndarray:
        """Signal over noise. A device puts all its power into its share of the band, the base station an equal part."""
        if direction == "up":
            noise = _watts(THERMAL_NOISE_DBM_PER_HZ + self.cell.noise_figure_db) * bandwidth
            return self.transmit_watts * self.up_gain / noise
        noise = _watts(THERMAL_NOISE_DBM_PER_HZ + self.cell.device_noise_figure_db) * self.cell.bandwidth
        return _watts(self.cell.transmit_dbm) * self.down_gain / noise

    def rate(self, direction: str, bandwidth: float | np.ndarray) -> float | np.ndarray:
        """Bits per second in a share of the band [Hz]: truncated Shannon (TR 36.942 annex A.2), zero in outage."""
        snr = np.asarray(self.snr(direction, bandwidth))
        efficiency = np.minimum(SHARE[direction] * np.log2(1 + snr), HIGHEST[direction])
        return np.where(snr >= 10 ** (LOWEST_SNR_DB / 10), efficiency, 0.0) * bandwidth

    @property
    def in_outage(self) -> bool:
        """Whether nothing gets through in one of the directions, even in a hundredth of the band."""
        share = self.cell.bandwidth / 100
        return not (self.rate("up", share) > 0 and self.rate("down", share) > 0)


def draw_link(
    cell: Cell, distance: float, transmit_dbm: float, *, place_seed: int, round_seed: int | list[int] | None
) -> RadioLink:
    """A device's link in one round. Shadowing belongs to the place, fading to the round (None: the mean, no fading).

    Example:
        >>> link = draw_link(Cell(), 150.0, 23.0, place_seed=1, round_seed=2)
        >>> bool(link.rate("up", 5e6) > 0)
        True
    """
    loss = path_loss_db(cell.scenario, cell.state, distance, cell.carrier_frequency)
    if cell.shadowing:
        loss += SHADOWING_DB[cell.scenario, cell.state] * float(
            np.random.default_rng([place_seed, 0]).standard_normal()
        )
    fades = np.ones(2)
    if round_seed is not None:
        rng = np.random.default_rng([place_seed, 1, *np.atleast_1d(round_seed)])
        fades = rng.gamma(cell.diversity, 1 / cell.diversity, 2)
    gain = 10 ** ((cell.antenna_gain_db - loss) / 10)
    return RadioLink(cell, _watts(transmit_dbm), float(gain * fades[0]), float(gain * fades[1]))


def _watts(dbm: float) -> float:
    return 10 ** (dbm / 10 - 3)
