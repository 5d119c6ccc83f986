"""The window of a stream: the newest slots of one user, gaps filled, at one gain of the receiver."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from airlam.realtime import kernels
from airlam.realtime.state import State

LIMIT = 1.5  # of a predicted slot's amplitude, relative to the strongest measured slot of the window
JUMP = 2.0  # in amplitude: by so much a slot differs from its prediction, and from the one before, if the gain jumped
COHERENT = 0.5  # share of a slot's energy that its prediction explains, if the gain jumped
ENTRIES = 32  # of a slot, at least: a few entries fade by as much within a slot
WORSE = 3  # slots in a row that were predicted worse than by holding the one before: the filters are of another channel


class Window:
    """The newest slots of a user, oldest first, and what of its :class:`State` belongs to them.

    Args:
        state: is changed by every method.

    Attributes:
        edits: how often slots that had been taken before were changed.
    """

    def __init__(self, state: State) -> None:
        self.state, self.edits, history = state, 0, len(state.window)
        self._kernels = kernels.load()
        # twice as long as the window: it is moved back once in ``history`` slots, not at each
        self._slots = np.zeros((2 * history, *state.window.shape[1:]), np.complex64)
        self._slots[:history], self._end, self._history = state.window, history, history

    @property
    def slots(self) -> NDArray:
        """``complex64 [history, subcarrier, rx_ant, tx_ant]``, a view."""
        return self._slots[self._end - self._history : self._end]

    @property
    def newest(self) -> NDArray:
        """``complex64 [subcarrier, rx_ant, tx_ant]``, a view."""
        return self._slots[self._end - 1]

    @property
    def full(self) -> bool:
        """Whether every slot counts."""
        return self.state.filled == self._history

    @property
    def measured_share(self) -> float:
        """Of its slots."""
        return float(np.count_nonzero(self.state.powers)) / self._history

    @property
    def predicts(self) -> bool:
        """Whether filters are there that may be used."""
        return bool(self.state.memory) and self.full and self.state.worse < WORSE

    @property
    def expected(self) -> NDArray | None:
        """What was predicted for the next slot; ``None``: nothing."""
        future = self.state.future
        return None if future is None else future[min(self.state.ahead, len(future) - 1)]

    def measured(self, value: NDArray) -> None:
        """Take the next slot."""
        state, expected = self.state, self.expected if self.predicts else None
        place = self._room()
        place[:] = value if state.gain == 1.0 else value / np.float32(state.gain)
        if expected is None:
            state.power = float(np.vdot(place, place).real)
        else:
            power, energy, before, re, im, held = self._kernels.compare(place, expected, self.newest)
            factor = self._level(place, power, energy, math.hypot(re, im))
            if state.lost:
                self._correct(place - expected)
            else:  # squared distances from the slot, less its own energy
                worse = energy - 2 * re / factor > before - 2 * held / factor
                state.worse = state.worse + 1 if worse else 0
        state.lost = state.stale = 0
        self._take(state.power)

    def skip(self, count: int) -> None:
        """Slots that were lost: what was predicted for them, up to the horizon, then its last slot. Where as many are
        lost as the window has, it begins anew."""
        state = self.state
        if state.lost + count >= self._history:
            state.counts.gaps += state.lost < self._history
            state.slot, state.age, state.lost = state.slot + count, state.age + count, self._history
            self._begin()
            return
        for _ in range(count):
            expected = self.expected
            self._append(np.zeros_like(self.newest) if expected is None else expected)
            state.filled *= expected is not None  # else nothing came before
            state.ahead += 1
        state.lost, state.counts.missing = state.lost + count, state.counts.missing + count

    def insert(self, value: NDArray | None, behind: int) -> None:
        """A slot that comes after later ones. When as many in a row come too late as the window has, slots are numbered
        from the last of them on."""
        state = self.state
        if value is None or behind > state.filled:
            state.counts.stale, state.stale = state.counts.stale + 1, state.stale + 1
            if value is not None and state.stale >= self._history:
                state.counts.gaps, state.slot = state.counts.gaps + 1, state.slot - behind
                self._begin()
                self.measured(value)
            return
        state.counts.late, state.stale = state.counts.late + 1, 0
        self._slots[self._end - behind] = value / np.float32(state.gain)
        self._edited()

    def bound(self, future: NDArray) -> None:
        """Scale down slots that are stronger than anything measured: lost slots are replaced by predictions, which must
        not feed upon themselves."""
        self._kernels.bound(future, LIMIT**2 * max(*self.state.powers.tolist(), self.state.power))

    def _begin(self) -> None:
        """Forget the slots, not the filters."""
        state = self.state
        state.filled, state.unseen, state.ahead, state.future = 0, 0, 0, None
        state.powers[:] = 0

    def _append(self, value: NDArray, power: float = 0.0) -> None:
        """Put a slot into the window; ``power`` is 0 for one that was not measured."""
        self._room()[:] = value
        self._take(power)

    def _room(self) -> NDArray:
        """Where the next slot goes."""
        history = self._history
        if self._end == 2 * history:
            self._slots[:history] = self._slots[history:]
            self._end = history
        return self._slots[self._end]

    def _take(self, power: float) -> None:
        """Count the slot that stands where the next one goes."""
        history, state = self._history, self.state
        state.powers[state.slot % history] = power
        self._end += 1
        state.slot += 1
        state.filled = min(state.filled + 1, history)
        state.unseen = min(state.unseen + 1, history)
        state.age += 1

    def _correct(self, error: NDArray) -> None:
        """Slots were lost before this one, which their predictions missed by ``error``: those had missed by less."""
        lost = self.state.lost
        for i in range(1, lost + 1):
            self._slots[self._end - i] += error * np.float32((lost + 1 - i) / (lost + 1))
        self._edited()

    def _edited(self) -> None:
        self.edits += 1
        self.state.unseen = self._history  # what the filters saw in their place is no longer true

    def _level(self, place: NDArray, power: float, energy: float, alike: float) -> float:
        """Divide the slot at ``place`` by a jump of the receiver's gain, and return that: a slot jumps where it has the
        shape that was predicted, and far more or less power than predicted and than the slot that was measured before.

        Args:
            power, energy: of the slot and of its prediction. alike: magnitude of their inner product.
        """
        state, factor = self.state, 1.0
        if place.size >= ENTRIES and power > 0 and state.power > 0 and alike**2 > COHERENT * energy * power:
            factors = alike / energy, math.sqrt(power / state.power)
            if min(factors) > JUMP or max(factors) < 1 / JUMP:
                factor = factors[0]
                place /= np.float32(factor)
                state.gain *= factor
                state.counts.jumps += 1
        state.power = power / factor**2
        return factor
