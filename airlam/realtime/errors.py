"""How wrong a stream's predictions have been of late: what a robust precoder needs, from any engine.

One prediction at a time is kept and compared with the slots that it was for, as they are measured; then the next. The
mean squared error of each slot is a running mean. The covariance over transmit antennas is taken of one slot in the
middle, and scaled for the others: where a prediction is wrong is much the same for all of them. Noise of the measured
slots counts as error unless its variance is told.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FORGET = 0.2  # weight of the newest comparison in a running mean


class Errors:
    """Of one stream.

    Args:
        num_future: slots of a prediction.
        shape: (subcarriers, rx_ants, tx_ants) of a slot.
        wait: slots until the first prediction is kept: users of a group that wait unequally long do not all compare the
            middle slot at the same time.

    Attributes:
        variance: ``float64 [num_future]``, mean squared error of an entry.
        covariance: ``complex64 [tx_ant, tx_ant]``, ``E[e^H e]`` of rows ``e`` of the middle slot's error.
        seen: comparisons of each slot, ``int64 [num_future]``.

    Example:
        >>> errors = Errors(2, (3, 1, 4))
        >>> errors.predicted(np.ones((2, 3, 1, 4), np.complex64))
        >>> errors.measured(np.zeros((3, 1, 4), np.complex64))
        >>> errors.variance.tolist()
        [1.0, 0.0]
    """

    def __init__(self, num_future: int, shape: tuple[int, int, int], wait: int = 0) -> None:
        self.variance, self.seen = np.zeros(num_future), np.zeros(num_future, np.int64)
        self.covariance = np.zeros((shape[-1], shape[-1]), np.complex64)
        self.middle = (num_future - 1) // 2
        self._kept = np.zeros((num_future, *shape), np.complex64)
        self._next = num_future - wait % num_future  # slot of the kept prediction that comes next
        self._valid = False
        self._difference = np.empty(shape, np.complex64)
        self._set_level()

    def _set_level(self) -> None:
        """Mean variance of an entry by the covariance."""
        self._level = max(float(self.covariance.diagonal().real.mean()), 1e-30)

    @property
    def known(self) -> bool:
        """Whether every slot was compared once."""
        return bool(self.seen.all())

    def measured(self, value: NDArray | None, lost: int = 0) -> None:
        """Take the next slot.

        Args:
            value: ``complex64 [subcarrier, rx_ant, tx_ant]``; ``None``: it was lost.
            lost: slots that were lost before it.
        """
        slot = self._next + lost
        if value is not None and self._valid and slot < len(self._kept):
            np.subtract(value, self._kept[slot], out=self._difference)
            weight = max(1 / (1 + int(self.seen[slot])), FORGET)
            power = float(np.vdot(self._difference, self._difference).real) / self._difference.size
            self.variance[slot] += weight * (power - self.variance[slot])
            self.seen[slot] += 1
            if slot == self.middle:
                rows = self._difference.reshape(-1, len(self.covariance))
                found = (rows.conj().T @ rows) / np.float32(len(rows))
                self.covariance += np.float32(weight) * (found - self.covariance)
                self._set_level()
        self._next = slot + 1

    def predicted(self, future: NDArray) -> None:
        """Keep a prediction ``complex64 [num_future, subcarrier, rx_ant, tx_ant]``, if none waits to be compared."""
        if self._next >= len(self._kept):
            self._kept[:], self._next, self._valid = future, 0, True

    def spread(self, slots: slice | int, noise: float = 0.0) -> NDArray:
        """Covariance of the errors of some slots, ``complex64 [slot, tx_ant, tx_ant]`` (of one: without that axis).

        Args:
            noise: variance of the measured slots' noise.
        """
        if isinstance(slots, int):
            return np.float32(max(self.variance[slots] - noise, 0.0) / self._level) * self.covariance
        return np.stack([self.spread(slot, noise) for slot in range(*slots.indices(len(self.variance)))])

    def arrays(self) -> dict[str, NDArray]:
        """A copy of all that it knows, for :meth:`restore`."""
        place = np.array([self._next, self._valid])
        found: dict[str, NDArray] = {"variance": self.variance, "seen": self.seen}
        found |= {"covariance": self.covariance, "kept": self._kept}
        return {name: value.copy() for name, value in found.items()} | {"place": place}

    def restore(self, arrays: dict[str, NDArray]) -> None:
        """Take what :meth:`arrays` gave."""
        self.variance[:], self.seen[:], self.covariance[:] = (arrays[x] for x in ("variance", "seen", "covariance"))
        self._kept[:], self._next, self._valid = arrays["kept"], int(arrays["place"][0]), bool(arrays["place"][1])
        self._set_level()
