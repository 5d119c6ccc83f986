"""What a stream keeps of one user: plain arrays and numbers, to be saved, restored, moved."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from airlam.errors import StoreError
from airlam.io import replacing
from airlam.realtime.engine import Engine, Memory
from airlam.realtime.layout import Array, check_arrays

WINDOW, FUTURE, POWERS = "window", "future", "powers"
FORMAT = "airlam-stream-1"


@dataclass
class Counts:
    """What a stream met: slots that were ``missing``, that came ``late`` (``stale``: too late to be used), jumps of the
    receiver's ``gain``, new starts after a long ``gap``, and refreshes that ``failed``."""

    missing: int = 0
    late: int = 0
    stale: int = 0
    jumps: int = 0
    gaps: int = 0
    failed: int = 0


@dataclass
class State:
    """One user.

    Attributes:
        identity: of the engine.
        window: ``complex64 [history, subcarrier, rx_ant, tx_ant]``, oldest slot first, over ``gain``.
        slot: number of the slot that is due next.
        filled: slots of the window that count; the others are zeros from before the start.
        memory: the engine's; empty before the first refresh. unseen: newest slots that it has not seen.
        age: slots since the window of the last refresh. worse: slots in a row that were predicted worse than held.
        lost: slots that are missing at the window's end. stale: slots in a row that came too late.
        ahead: how many slots of ``future`` have passed.
        future: ``complex64 [num_future, ...]``, the latest prediction, over ``gain``; ``None``: there is none.
        gain: amplitude of the receiver's gain now over that at the start. power: of the slot that was measured last,
            over its square.
        powers: ``[history]`` of the measured slots of the window, 0 for others, by number of the slot modulo
            ``history``.
    """

    identity: str
    window: NDArray
    slot: int = 0
    filled: int = 0
    memory: Memory = field(default_factory=dict)
    unseen: int = 0
    age: int = 0
    worse: int = 0
    lost: int = 0
    stale: int = 0
    ahead: int = 0
    future: NDArray | None = None
    gain: float = 1.0
    power: float = 0.0
    powers: NDArray = field(default_factory=lambda: np.zeros(0))
    counts: Counts = field(default_factory=Counts)

    @classmethod
    def of(cls, engine: Engine) -> Self:
        """An empty one."""
        window = np.zeros((engine.history, *engine.shape), np.complex64)
        return cls(engine.identity, window, powers=np.zeros(engine.history))

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        future = 0 if self.future is None else self.future.nbytes
        return self.window.nbytes + future + sum(value.nbytes for value in self.memory.values())

    def save(self, path: str | Path) -> Path:
        """Write one file (safetensors), atomically."""
        with replacing(path) as work:
            work.write_bytes(self.to_bytes())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, engine: Engine) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            StoreError: no such file, a foreign or damaged one, or the state of another method, version or size.
        """
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError as error:
            raise StoreError(f"there is no state {path}") from error
        except OSError as error:
            raise StoreError(f"{path} is no state of a stream: {error}") from error
        state = cls.from_bytes(data, str(path))
        state.check(engine, str(path))
        return state

    def to_bytes(self) -> bytes:
        """All of it in the format of safetensors, to be sent to another process."""
        arrays = {f"memory.{name}": np.asarray(value, order="C") for name, value in self.memory.items()}
        arrays |= {WINDOW: self.window, POWERS: self.powers}
        if self.future is not None:
            arrays[FUTURE] = self.future
        arrays_too = (WINDOW, FUTURE, POWERS, "memory")
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in arrays_too}
        plain["counts"] = asdict(self.counts)
        text = json.dumps(plain)
        return save(arrays, metadata={"format": FORMAT, "state": text, "sha256": _digest(arrays, text)})

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "the state") -> Self:
        """What :meth:`to_bytes` gave; :meth:`check` says whether an engine may run it.

        Args:
            name: of the state in messages.

        Raises:
            StoreError: a foreign or damaged one.

        Example:
            >>> from airlam.baselines.paths import PathPredictor
            >>> from airlam.realtime import engine_for
            >>> engine = engine_for(PathPredictor(), (6, 1, 4), 2, history=8)
            >>> State.from_bytes(State.of(engine).to_bytes()).window.shape
            (8, 6, 1, 4)
        """
        try:
            arrays, meta = load(data), _metadata(data)
        except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise StoreError(f"{name} is no state of a stream: {reason}") from error
        if meta.get("format") != FORMAT:
            raise StoreError(f"{name} is no state of a stream (its format is {meta.get('format')!r}, not {FORMAT!r})")
        if meta.get("sha256") != _digest(arrays, meta.get("state", "")):
            raise StoreError(f"{name} is damaged: its SHA-256 is not the one that was saved with it")
        try:
            plain = json.loads(meta["state"])
            counts = Counts(**plain.pop("counts"))
            memory = {key.removeprefix("memory."): x for key, x in arrays.items() if key.startswith("memory.")}
            found = {"window": arrays[WINDOW], "powers": arrays[POWERS], "future": arrays.get(FUTURE)}
            return cls(**{**plain, **found, "counts": counts, "memory": memory})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(f"{name} is damaged: {error}") from error

    def check(self, engine: Engine, name: str = "the state") -> None:
        """Raises StoreError unless it belongs to ``engine``."""
        if self.identity != engine.identity:
            raise StoreError(
                f"{name} belongs to {self.identity}, but this stream is {engine.identity}: another method, version or "
                "size; start the stream anew"
            )
        try:
            self._check_own(engine)
            if self.memory:
                engine.check(self.memory)
        except (ValueError, TypeError) as error:
            raise StoreError(f"{name} is damaged: {error}") from error

    def _check_own(self, engine: Engine) -> None:
        """Raises ValueError or TypeError where a number is none or out of bounds, or an array does not fit."""
        history, huge = engine.history, 2**62
        most = {"filled": history, "unseen": history, "lost": history}
        for name in ("slot", "filled", "unseen", "age", "worse", "lost", "stale", "ahead"):
            least, bound = -huge if name == "slot" else 0, most.get(name, huge)
            if type(value := getattr(self, name)) is not int or not least <= value <= bound:
                raise ValueError(f"{name} is {value!r}, but must be a whole number from {least} to {bound}")
        for name, value in asdict(self.counts).items():
            if type(value) is not int or not 0 <= value <= huge:
                raise ValueError(f"counts.{name} is {value!r}, but must be a whole number from 0 to {huge}")
        for name, least in (("gain", 1e-30), ("power", 0.0)):
            if not least <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)!r}, but must be a number of at least {least:g}")
        arrays = {WINDOW: self.window, POWERS: self.powers}
        layout = {
            WINDOW: Array("complex64", (history, *engine.shape)),
            POWERS: Array("float64", (history,)),
        }
        if self.future is not None:
            arrays[FUTURE], layout[FUTURE] = self.future, Array("complex64", (engine.num_future, *engine.shape))
        check_arrays(arrays, layout)


def _metadata(data: bytes) -> dict[str, str]:
    """Of the header, which begins with its length; the library reads it from files alone."""
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__") or {}


def _digest(arrays: dict[str, NDArray], text: str) -> str:
    """Of all that a file holds: kernels index with what stands in it."""
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(arrays.items()):
        digest.update(f"{name} {value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
