"""CSI of propagation paths: what layouts do that hold rays and no frequency response."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.constants import speed_of_light

from airlam.data.importers.sets.description import Description
from airlam.errors import RecipeError
from airlam.recipes import check_number


@dataclass(frozen=True)
class Paths:
    """Rays of some links; a path that is not there has gain 0.

    Attributes:
        gain: ``complex128 [link, path]``, the coefficient at the carrier with its phase.
        delay: ``float64 [link, path]`` in s.
        departure: zenith and azimuth ``[2, link, path]`` in rad, from the transmitter, in the panel's axes.
        arrival: zenith and azimuth ``[2, link, path]`` in rad, from the receiver to where the path comes from.
    """

    gain: np.ndarray
    delay: np.ndarray
    departure: np.ndarray
    arrival: np.ndarray


class PathGrid:
    """The slots, subcarriers and ports on which CSI of paths is computed.

    The panel lies in the y-z plane, looks along +x, and has isotropic elements of one polarisation at half a wavelength
    (of ``spacing``); columns run along +y, rows from top to bottom, and phases count from the lowest row's first
    element. Users have one antenna.

    Args:
        path: of the data set, for errors.
        description: of the user: slot, spacing of subcarriers, port shape.
        carrier_hz: of the data set.
        subcarriers, slots: how many. speed_kmh: of every user, in a horizontal direction drawn from the seed.
        first_hz: the first subcarrier, relative to the carrier.
    """

    def __init__(
        self,
        path: object,
        description: Description,
        carrier_hz: float,
        subcarriers: object,
        slots: object,
        speed_kmh: object,
        *,
        centred: bool,
    ) -> None:
        missing = [
            option
            for option, value in (
                ("--subcarriers", subcarriers),
                ("--subcarrier-spacing-hz", description.subcarrier_spacing_hz),
                ("--port-shape", description.port_shape),
            )
            if value is None
        ]
        if missing:
            raise RecipeError(f"{path} holds paths, of which CSI is computed; give {', '.join(missing)}")
        assert description.port_shape is not None and description.subcarrier_spacing_hz is not None
        self.ports = tuple(description.port_shape)
        if self.ports[0] != 1:
            raise RecipeError(
                f"--port-shape {','.join(map(str, self.ports))} has {self.ports[0]} polarisations, but the paths have "
                "one; give 1,columns,rows"
            )
        self.tones = check_number("--subcarriers", subcarriers, 1, 10**5, integer=True)
        self.slots = 1 if slots is None else check_number("--slots", slots, 1, 10**4, integer=True)
        self.speed = (0.0 if speed_kmh is None else check_number("--speed-kmh", speed_kmh, 0, 10**4)) / 3.6
        if self.slots > 1 and description.slot_s is None:
            raise RecipeError(f"{path} has no slots; give --slot-s, the time from one to the next")
        self.slot_s = description.slot_s or 1e-3  # of no meaning where there is one slot
        self.carrier_hz, self.seed = description.carrier_hz or carrier_hz, description.seed
        start = self.tones // 2 if centred else 0
        self.frequencies = (np.arange(self.tones) - start) * description.subcarrier_spacing_hz

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a link's CSI: (slots, subcarriers, 1, ports)."""
        return self.slots, self.tones, 1, self.ports[1] * self.ports[2]

    def velocities(self, links: int) -> np.ndarray:
        """``[link, 3]`` in m/s: as many as there are links in the data set."""
        turn = 2 * np.pi * np.random.default_rng([self.seed, 1]).random(links)
        return self.speed * np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=-1)

    def csi(self, paths: Paths, velocity: np.ndarray) -> np.ndarray:
        """``complex64 [link, slot, subcarrier, 1, port]``.

        A path's phase is ``2 pi (doppler t - f delay + d / wavelength)``, with the Doppler shift ``v . arrival /
        wavelength`` and an element's distance ``d`` along the departure.
        """
        towards = np.sum(_unit(paths.arrival) * velocity[:, None, :], axis=-1)  # [link, path]
        doppler = towards * self.carrier_hz / speed_of_light
        times = np.arange(self.slots) * self.slot_s
        turns = doppler[:, None, :] * times[:, None]  # [link, slot, path]
        turns = turns[:, :, None, :] - (paths.delay[:, None, :] * self.frequencies[:, None])[:, None]
        shifted = paths.gain[:, None, None, :] * np.exp(2j * np.pi * turns)  # [link, slot, subcarrier, path]
        _, columns, rows = self.ports
        _, y, z = np.moveaxis(_unit(paths.departure), -1, 0)[..., None, None]
        place = 0.5 * (np.arange(columns)[:, None] * y + np.arange(rows)[::-1] * z)  # [link, path, column, row]
        steering = np.exp(2j * np.pi * place).reshape(*paths.gain.shape, -1).astype(np.complex64)
        flat = shifted.reshape(len(shifted), -1, shifted.shape[-1]).astype(np.complex64)
        return np.matmul(flat, steering).reshape(-1, *self.shape)


def _unit(angles: np.ndarray) -> np.ndarray:
    """Zenith and azimuth ``[2, ...]`` as unit vectors ``[..., 3]``."""
    zenith, azimuth = angles
    return np.stack([np.sin(zenith) * np.cos(azimuth), np.sin(zenith) * np.sin(azimuth), np.cos(zenith)], axis=-1)
