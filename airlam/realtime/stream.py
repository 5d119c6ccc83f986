"""One user's stream: slots go in one by one, predictions come out, filters are renewed beside it."""

from __future__ import annotations

import copy
import operator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airlam.realtime.engine import Engine
from airlam.realtime.refresher import Job, Refresher
from airlam.realtime.state import State
from airlam.realtime.window import WORSE, Window

Slot = TypeVar("Slot", Tensor, NDArray)

MEASURED = 0.75  # share of the window's slots that filters are found from
BEHIND = 2  # newest slots that a push may look through when it takes over new filters; more are seen beside it


class Stream:
    """Predictions for one user whose slots arrive one by one.

    Args:
        engine: the method (:func:`airlam.realtime.engine_for`); many streams may share one. All streams of an engine
            are pushed from one thread.
        refresher: renews the filters in a background thread, for many streams in turn. ``None``: a push does it itself,
            and takes as long as that does.
        refresh_every: slots after which filters are to be renewed.

    Example:
        >>> from airlam.baselines.paths import PathPredictor
        >>> from airlam.realtime import engine_for
        >>> stream = Stream(engine_for(PathPredictor(), (6, 1, 4), 2, history=8))
        >>> for slot in torch.randn(12, 6, 1, 4, dtype=torch.complex64):
        ...     h_future = stream.push(slot)
        >>> h_future.shape
        torch.Size([2, 6, 1, 4])
    """

    def __init__(self, engine: Engine, refresher: Refresher | None = None, *, refresh_every: int = 32) -> None:
        if isinstance(refresh_every, bool) or not isinstance(refresh_every, int) or refresh_every < 1:
            raise ValueError(f"refresh_every is {refresh_every!r}, but must be a whole number of at least 1")
        if refresher is not None and not isinstance(refresher, Refresher):
            raise TypeError(f"refresher is {refresher!r}, but must be a Refresher or None")
        self.engine, self.refresher, self.refresh_every = engine, refresher, refresh_every
        self.job: Job | None = None
        self.error: BaseException | None = None
        if refresher is not None:
            refresher.know(engine)
        self.reset()

    # -- state -----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """A copy of all that the stream knows of its user. Setting it continues another stream of the same engine."""
        self._state.window = self._window.slots
        return copy.deepcopy(self._state)

    @state.setter
    def state(self, state: State) -> None:
        state.check(self.engine)
        self._state, self.job, self._retry = copy.deepcopy(state), None, 0
        self._window = Window(self._state)

    @property
    def due(self) -> int | None:
        """Number of the slot that comes next; ``None`` before the first."""
        return self._state.slot if self._state.filled else None

    def reset(self) -> None:
        """Forget the user."""
        self.state = State.of(self.engine)

    def start(self, h_past: Slot, slot: int | None = None) -> Slot:
        """Begin with a whole history, and predict.

        Without a refresher filters are found at once. With one they are found beside the pushes; until then the newest
        slot is held.

        Args:
            h_past: ``complex [slot, subcarrier, rx_ant, tx_ant]``, at least ``engine.history`` slots.
            slot: number of the newest one. ``None``: slots are counted from the oldest one that is used.
        """
        history = self.engine.history
        if not isinstance(h_past, (Tensor, np.ndarray)) or h_past.ndim != 4 or len(h_past) < history:
            raise ValueError(
                f"a stream of {self.engine.name} starts with at least {history} slots [slot, subcarrier, rx_ant, "
                f"tx_ant], got {_said(h_past)}; fewer are pushed one by one"
            )
        slots = [checked(each, self.engine.shape) for each in h_past[-history:]]
        number = None if slot is None else _whole(slot)
        self.reset()
        if number is not None:
            self._state.slot = number + 1 - history
        for each in slots:
            self._window.measured(each)
        if self.refresher is None:
            self._refresh_now()
        else:
            self._renew()
        return _like(h_past, self._predict())

    # -- the fast clock --------------------------------------------------------------------------------------------

    def push(self, h_slot: Slot | None, slot: int | None = None, out: NDArray | None = None) -> Slot:
        """Take the newest measured slot, and predict.

        Args:
            h_slot: ``complex [subcarrier, rx_ant, tx_ant]``; ``None``: it was not measured, what was predicted for it
                stands in its place.
            slot: its number. One that is higher than the next says how many were lost; a lower one came late: it takes
                its place in the window, if it still has one. ``None``: the next.
            out: ``complex64 [num_future, subcarrier, rx_ant, tx_ant]`` to write to instead of a new array.

        Returns:
            ``complex64 [num_future, subcarrier, rx_ant, tx_ant]``, of the kind of ``h_slot`` (an array for ``None``).
            Until ``engine.history`` slots have arrived and filters are found, the newest slot is held.

        Raises:
            ValueError, TypeError: another shape, NaN, or a number that is none. The stream is as it was.
        """
        sizes = (self.engine.num_future, *self.engine.shape)
        if out is not None and not (
            isinstance(out, np.ndarray) and out.shape == sizes and out.dtype == np.complex64 and out.flags.writeable
        ):
            raise ValueError(f"out is {_said(out)}, but must be a writeable array complex64 {sizes}")
        self._take(h_slot, slot)
        self._renew()
        return _like(h_slot, self._predict(out))

    def take(self, h_slot: Slot | None, slot: int | None = None) -> None:
        """Take a measured slot as :meth:`push` does, but leave its prediction out, which is nearly all of the time."""
        if self._take(h_slot, slot):
            self._state.ahead += 1

    def _take(self, h_slot: Slot | None, slot: int | None) -> bool:
        """Put a slot into the window; whether it was measured and is the newest."""
        value, state = None if h_slot is None else checked(h_slot, self.engine.shape), self._state
        slot = None if slot is None else _whole(slot)
        if slot is not None and not state.filled:
            state.slot = slot
        ahead = 0 if slot is None else slot - state.slot
        if ahead < 0:
            self._window.insert(value, -ahead)
            return False
        self._window.skip(ahead + (value is None))
        if value is not None:
            self._window.measured(value)
        return value is not None

    def _predict(self, out: NDArray | None = None) -> NDArray:
        state, engine = self._state, self.engine
        if state.future is None:
            state.future = np.empty((engine.num_future, *engine.shape), np.complex64)
        future = state.future
        if self._window.predicts:
            engine.advance(state.memory, self._window.slots, state.unseen, future)
            state.unseen = 0
            self._window.bound(future)
        else:
            future[:] = self._window.newest
        state.ahead = 0
        if out is None:
            out = np.empty_like(future)
        np.multiply(future, np.float32(state.gain), out=out)
        return out

    # -- the slow clock --------------------------------------------------------------------------------------------

    def _renew(self) -> None:
        state = self._state
        if self.refresher is not None and self.job is not None and self.job.done() and self._window.full:
            self._take_over(self.job)
        wanted = not state.memory or state.age >= self.refresh_every or state.worse >= WORSE
        enough = self._window.full and self._window.measured_share >= MEASURED
        if wanted and enough and self.job is None and state.slot >= self._retry:
            if self.refresher is not None:
                self.refresher.ask(self)
            else:
                try:
                    self._refresh_now()
                except Exception as error:
                    self._failed(error)
        if self.refresher is not None:
            self.refresher.serve()

    def _refresh_now(self) -> None:
        state = self._state
        state.memory = self.engine.refresh(self._window.slots, state.memory or None)
        state.unseen = state.age = state.worse = 0

    def _failed(self, error: BaseException | None) -> None:
        """The old filters go on; the next try comes as many slots later as between two refreshes."""
        self.error, self._retry = error, self._state.slot + self.refresh_every
        self._state.counts.failed += 1

    def begin(self) -> None:
        """Start the job that the refresher has room for, with the window as it is now."""
        assert self.refresher is not None
        if not self._window.full:
            return
        self.job = self.refresher.start(self.engine, self._window.slots.copy(), self._state, self._window.edits)

    def _take_over(self, job: Job) -> None:
        """Use the filters of a finished job; where many slots came since, have them seen beside the pushes first."""
        assert self.refresher is not None
        state = self._state
        memory, edits = job.result(), self._window.edits
        if memory is None:
            self.job = None
            self._failed(self.refresher.error)
            return
        behind = self.engine.history if edits != job.edits else min(state.slot - job.slot, self.engine.history)
        if behind > BEHIND and not job.caught_up and not self.refresher.closed:
            self.job = self.refresher.catch_up(job, self._window.slots.copy(), state.slot, behind, edits)
            return
        state.memory, state.unseen, state.age, state.worse = memory, behind, state.slot - job.began, 0
        self.job = None


def checked(h_slot: object, shape: tuple[int, ...]) -> NDArray:
    """A measured slot of ``shape`` as a contiguous array ``complex64``.

    Raises:
        ValueError: another kind or shape, NaN, infinity, or a power that is far off.
    """
    value = h_slot.detach().resolve_conj().resolve_neg().numpy() if isinstance(h_slot, Tensor) else h_slot
    if not isinstance(value, np.ndarray) or not np.iscomplexobj(value) or value.shape != shape:
        raise ValueError(f"h_slot is {_said(h_slot)}, but must be complex [subcarrier, rx_ant, tx_ant] = {shape}")
    value = np.ascontiguousarray(value, np.complex64)
    mean = np.vdot(value, value).real / value.size
    if not (mean == 0 or 1e-12 < mean < 1e12):  # also false where a value is not finite
        raise ValueError(
            f"h_slot has a mean power of {mean:g}; NaN or infinity is never predicted from, and other powers than "
            "0 and 1e-12 to 1e12 are scaled before"
        )
    return value


def _said(x: object) -> str:
    """A value's kind and shape for a message."""
    return f"{getattr(x, 'dtype', type(x).__name__)} {tuple(getattr(x, 'shape', ()))}"


def _like(given: object, found: NDArray):
    """A tensor where a tensor was given."""
    return torch.from_numpy(found) if isinstance(given, Tensor) else found


def _whole(slot: object) -> int:
    """The number of a slot, if it is one."""
    try:
        number = -1 if isinstance(slot, bool) else operator.index(slot)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < 0:
        raise ValueError(f"slot is {slot!r}, but must be a whole number of at least 0")
    return number
