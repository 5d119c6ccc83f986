"""Users that are served together: their streams and their precoder, from measured slots to beams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from airlam.errors import StoreError
from airlam.io import replacing
from airlam.realtime.engine import Engine
from airlam.realtime.errors import Errors
from airlam.realtime.precoding import FastPrecoder, whitened
from airlam.realtime.refresher import Refresher
from airlam.realtime.state import State
from airlam.realtime.stream import Stream, checked

FILE = "group.safetensors"
TRUST = 0.25  # in the covariance of errors: they are not as steady as a covariance says


@dataclass
class GroupState:
    """What a group knows: of each user the stream's state and its errors, and ``shared`` arrays of all together."""

    users: list[State]
    errors: list[dict[str, NDArray]]
    shared: dict[str, NDArray]

    def save(self, folder: str | Path) -> Path:
        """Write a file for each user and one for the group."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for i, user in enumerate(self.users):
            user.save(folder / f"user-{i}.safetensors")
        arrays = {f"{i}.{name}": x for i, found in enumerate(self.errors) for name, x in found.items()}
        arrays |= {f"shared.{name}": np.ascontiguousarray(x) for name, x in self.shared.items()}
        with replacing(folder / FILE) as work:
            save_file(arrays, work, metadata={"users": str(len(self.users))})
        return folder

    @classmethod
    def load(cls, folder: str | Path, engine: Engine) -> GroupState:
        """Read what :meth:`save` wrote.

        Raises:
            StoreError: nothing there, or what is there is damaged or of another engine.
        """
        folder = Path(folder)
        try:
            with safe_open(folder / FILE, framework="numpy") as file:
                number = int((file.metadata() or {})["users"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise StoreError(f"{folder} holds no state of a group: {str(error).splitlines()[0]}") from error

        def part(name: str) -> dict[str, NDArray]:
            return {key.removeprefix(f"{name}."): x for key, x in arrays.items() if key.startswith(f"{name}.")}

        users = [State.load(folder / f"user-{i}.safetensors", engine) for i in range(number)]
        return cls(users, [part(str(i)) for i in range(number)], part("shared"))


class Group:
    """Streams of the users of one cell, and the precoder that serves them together.

    Args:
        engine: of all users (:func:`airlam.realtime.engine_for`).
        users: how many.
        no: noise variance of every user's receiver, in the units of the CSI; users with unequal noise are scaled.
        power: of all beams of a tone.
        refresher, refresh_every: see :class:`airlam.realtime.Stream`.
        serve: predicted slots that get beams; ``None``: all. ``range(2, 6)`` where the beams are ready after two slots.
        trust: what the covariance of errors is multiplied by; 0: the predictions are taken as exact.
        csi_noise: variance of the measured slots' noise, if it is known; else it counts as error.
        rounds: of WMMSE, each begun where the last slot ended; 0: regularised zero forcing.
        tones_per_weight: neighbouring subcarriers that share beams.
        compiled: kernels of the precoder, see :func:`airlam.realtime.kernels.load`.

    Example:
        >>> from airlam.baselines import EigenARPredictor
        >>> from airlam.realtime import engine_for
        >>> engine = engine_for(EigenARPredictor(forward_backward=True), (6, 1, 4), 2, history=8)
        >>> group = Group(engine, 3, no=0.01)
        >>> for h_slots in torch.randn(12, 3, 6, 1, 4, dtype=torch.complex64):
        ...     w = group.push(h_slots)
        >>> w.shape, bool(w.abs().square().sum((-2, -1)).allclose(torch.ones(2, 6)))
        (torch.Size([2, 6, 4, 3]), True)
    """

    def __init__(
        self,
        engine: Engine,
        users: int,
        *,
        no: float,
        power: float = 1.0,
        refresher: Refresher | None = None,
        refresh_every: int = 32,
        serve: range | None = None,
        trust: float = TRUST,
        csi_noise: float = 0.0,
        rounds: int = 0,
        tones_per_weight: int = 1,
        compiled: bool | None = None,
    ) -> None:
        if isinstance(users, bool) or not isinstance(users, int) or users < 1:
            raise ValueError(f"users is {users!r}, but must be a whole number of at least 1")
        for name, value in (("trust", trust), ("csi_noise", csi_noise)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < np.inf:
                raise ValueError(f"{name} is {value!r}, but must be a number of at least 0")
        horizon = range(engine.num_future)
        serve = horizon if serve is None else serve
        if not isinstance(serve, range) or serve.step != 1 or not serve or not set(serve) <= set(horizon):
            raise ValueError(f"serve is {serve!r}, but must be a range of the {engine.num_future} slots predicted")
        self.precoder = FastPrecoder(
            power=power, no=no, rounds=rounds, tones_per_weight=tones_per_weight, compiled=compiled
        )
        if engine.shape[0] % tones_per_weight:
            raise ValueError(
                f"tones_per_weight is {tones_per_weight}, but must divide the {engine.shape[0]} subcarriers"
            )
        self.engine, self.trust, self.csi_noise = engine, float(trust), float(csi_noise)
        self.serve = slice(serve.start, serve.stop)
        self._streams: dict[str, Any] = {"refresher": refresher, "refresh_every": refresh_every}
        self.streams: list[Stream] = []
        self.errors: list[Errors] = []
        for _ in range(users):
            self.add()
        ports = engine.shape[-1]
        self._whitening = np.tile(np.eye(ports, dtype=np.complex64), (len(serve), 1, 1))
        self._turn, self._passed = 0, 1

    def push(
        self, h_slots: Tensor | NDArray | Sequence[Any], slot: int | None = None, out: NDArray | None = None
    ) -> Any:
        """Take every user's newest slot, and give the beams of the slots to come.

        Args:
            h_slots: ``complex [user, subcarrier, rx_ant, tx_ant]``, or a sequence with ``None`` for users whose slot
                was lost.
            slot: its number, see :meth:`airlam.realtime.Stream.push`.
            out: for the beams, instead of a new array.

        Returns:
            ``complex64 [slot, subcarrier, tx_ant, user]`` with ``sum_k ||w_k||^2 = power``, for the slots of ``serve``;
            a tensor where one was given.

        Raises:
            ValueError, TypeError: bad CSI of one user. No user's stream has taken its slot.
        """
        for user, (value, lost) in enumerate(self._checked(h_slots, slot)):
            future = self.future[:, user]
            self.streams[user].push(value, slot, out=future)
            if self.trust and lost >= 0:
                self.errors[user].measured(value, lost)
                self.errors[user].predicted(future)
        w = self.beams(out)
        return torch.from_numpy(w) if any(isinstance(each, Tensor) for each in h_slots) else w

    def take(self, h_slots: Tensor | NDArray | Sequence[Any], slot: int | None = None) -> None:
        """Take every user's newest slot as :meth:`push` does, without predictions and beams: for slots between those
        after which beams are made."""
        for user, (value, lost) in enumerate(self._checked(h_slots, slot)):
            self.streams[user].take(value, slot)
            if self.trust and lost >= 0:
                self.errors[user].measured(value, lost)
        self._passed += 1

    def _checked(self, h_slots: Tensor | NDArray | Sequence[Any], slot: int | None) -> list[tuple[NDArray | None, int]]:
        """Every user's slot, and how many it has lost before."""
        if len(h_slots) != len(self.streams):
            raise ValueError(f"h_slots are of {len(h_slots)} users, but the group has {len(self.streams)}")
        found = []
        for user, (stream, h_slot) in enumerate(zip(self.streams, h_slots, strict=True)):
            try:
                value = None if h_slot is None else checked(h_slot, self.engine.shape)
            except ValueError as error:
                raise ValueError(f"user {user}: {error}") from error
            due = stream.due
            found.append((value, 0 if slot is None or due is None else slot - due))
        return found

    def beams(self, out: NDArray | None = None) -> NDArray:
        """The beams of the newest predictions, as :meth:`push` gives them."""
        future, passed = self.future[self.serve].swapaxes(0, 1), self._passed
        self._passed = 1
        if not self.trust:
            return self.precoder.precode(future, passed=passed, out=out)
        # statistics age slowly: one slot's matrix is inverted anew at each push
        self._turn = (self._turn + 1) % len(self._whitening)
        at = self.serve.start + self._turn
        total = sum(errors.spread(at, self.csi_noise) for errors in self.errors if errors.known)
        if not isinstance(total, int):
            precoder, users = self.precoder, len(self.streams)
            self._whitening[self._turn] = whitened(self.trust * total, users, precoder.no, precoder.power)
        return self.precoder.precode(future, whitening=self._whitening, passed=passed, out=out)

    # -- users -----------------------------------------------------------------------------------------------------

    def add(self, state: State | None = None) -> Stream:
        """A user joins, as the last one, maybe with what another cell knew of it."""
        stream = self._stream(state)
        self.streams.append(stream)
        self.errors.append(self._errors(len(self.errors)))
        self._resize()
        return stream

    def remove(self, user: int) -> None:
        """A user leaves; those behind it move up by one."""
        if not 0 <= user < len(self.streams) or len(self.streams) == 1:
            raise ValueError(f"user is {user}, but must be one of the {len(self.streams)} users, and not the last one")
        if self._streams["refresher"] is not None:
            self._streams["refresher"].forget(self.streams[user])
        del self.streams[user], self.errors[user]
        self._resize()

    def _stream(self, state: State | None) -> Stream:
        stream = Stream(self.engine, **self._streams)
        if state is not None:
            stream.state = state
        return stream

    def _errors(self, user: int, arrays: dict[str, NDArray] | None = None) -> Errors:
        errors = Errors(self.engine.num_future, self.engine.shape, user)
        if arrays is not None:
            errors.restore(arrays)
        return errors

    def _resize(self) -> None:
        self.future = np.zeros((self.engine.num_future, len(self.streams), *self.engine.shape), np.complex64)

    @property
    def state(self) -> GroupState:
        """A copy of all that the group knows. Setting it continues another group with the same engine and options."""
        errors = [each.arrays() for each in self.errors]
        shared = {
            "warm": self.precoder.warm,
            "whitening": self._whitening,
            "turn": np.array([self._turn, self._passed]),
        }
        shared = {name: value.copy() for name, value in shared.items()}
        return GroupState([stream.state for stream in self.streams], errors, shared)

    @state.setter
    def state(self, state: GroupState) -> None:
        shared, whitening = state.shared, self._whitening.shape
        if shared["whitening"].shape != whitening:
            raise StoreError(
                f"the state serves {len(shared['whitening'])} slots, but this group {whitening[0]}: give the same serve"
            )
        # a state that is refused leaves the group as it is
        users = enumerate(zip(state.users, state.errors, strict=True))
        made = [(self._stream(user), self._errors(i, arrays)) for i, (user, arrays) in users]
        self.streams, self.errors = [stream for stream, _ in made], [errors for _, errors in made]
        self._resize()
        self.precoder.warm, self._whitening = shared["warm"].copy(), shared["whitening"].copy()
        self._turn, self._passed = (int(x) for x in shared["turn"])
