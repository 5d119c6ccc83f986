"""The window of a stream: the newest slots of one user, gaps filled, at one gain of the receiver."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from airlam.realtime.state import State

LIMIT = 1.5  # of a predicted slot's amplitude, relative to the strongest measured slot of the window
JUMP = 2.0  # in amplitude, from one measured slot to the next: the receiver's gain changed
COHERENT = 0.5  # share of a slot's energy that its prediction explains


class Window:
    """The newest slots of a user, oldest first, and what of its :class:`State` belongs to them.

    Args:
        state: is changed by every method.
    """

    def __init__(self, state: State) -> None:
        self.state, history = state, len(state.window)
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

    def measured(self, value: NDArray) -> None:
        """Take the next slot."""
        self._append(self._levelled(value), self.state.power)

    def _append(self, value: NDArray, power: float = 0.0) -> None:
        """Put a slot into the window; ``power`` is 0 for one that was not measured."""
        history, state = self._history, self.state
        state.powers[state.slot % history] = power
        if self._end == 2 * history:
            self._slots[: history - 1] = self._slots[history + 1 :]
            self._end = history - 1
        self._slots[self._end] = value
        self._end += 1
        state.slot += 1
        state.filled = min(state.filled + 1, history)
        state.unseen = min(state.unseen + 1, history)
        state.age += 1

    def skip(self, count: int) -> None:
        """Slots that were lost: what was predicted for them, up to the horizon, then its last slot."""
        state = self.state
        if count > self._history:
            state.counts.gaps += 1
            state.slot, state.filled, state.unseen, state.future = state.slot + count, 0, 0, None
            return
        for lost in range(count):
            if state.future is None:
                self._append(np.zeros_like(self.newest))
                state.filled = 0  # nothing came before
            else:
                self._append(state.future[min(lost, len(state.future) - 1)])
        state.counts.missing += count

    def insert(self, value: NDArray | None, behind: int) -> None:
        """A slot that comes after later ones."""
        state = self.state
        if value is None or behind > state.filled:
            state.counts.stale += 1
            return
        state.counts.late += 1
        self._slots[self._end - behind] = value / np.float32(state.gain)
        state.unseen = self._history  # what the filters saw in its place is no longer true

    def _levelled(self, value: NDArray) -> NDArray:
        """The slot over the receiver's gain, which is found anew where it jumped: where a slot has the shape that was
        predicted, and far more or less power than the one that was measured before it."""
        state = self.state
        power = float(np.vdot(value, value).real) / state.gain**2
        if state.future is not None and state.memory and self.full and power > 0:
            expected = state.future[0]
            alike = abs(complex(np.vdot(expected, value))) ** 2 / state.gain**2
            factor = math.sqrt(power / state.power) if state.power > 0 else 1.0
            coherent = alike > COHERENT * float(np.vdot(expected, expected).real) * power
            if coherent and not 1 / JUMP < factor < JUMP:
                state.gain, power = state.gain * factor, power / factor**2
                state.counts.jumps += 1
        state.power = power
        return value if state.gain == 1.0 else value / np.float32(state.gain)

    def bound(self, future: NDArray) -> None:
        """Scale down slots that are stronger than anything measured: lost slots are replaced by predictions, which must
        not feed upon themselves."""
        state = self.state
        most = LIMIT**2 * max(float(state.powers.max()), state.power)
        for each in future:
            if (power := float(np.vdot(each, each).real)) > most:
                each *= np.float32(math.sqrt(most / power))
