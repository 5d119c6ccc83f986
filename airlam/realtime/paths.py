"""Streams of paths: plane waves found now and then, their joint filters applied to every slot.

Delays, directions and Doppler shifts of a user's paths change over tens of centimetres, so the joint linear MMSE filter
of :mod:`airlam.baselines.path_series` stays good for hundreds of slots although the channel itself changes with each.
A refresh searches for paths and solves for the filter; a new slot costs its correlation with each path, two products
with the solved system, and the synthesis of the slots to come.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airlam.baselines.path_fit import Search
from airlam.baselines.path_memory import find
from airlam.baselines.path_receiver import by_panel
from airlam.baselines.path_series import Paths, Posterior, as_panel
from airlam.baselines.path_tracking import track
from airlam.baselines.paths import PathPredictor, extrapolated
from airlam.csi import PortShape, normalise
from airlam.models.path_model import AirlamPathsPredictor
from airlam.models.phase_tracker import centres, rotate
from airlam.realtime.engine import Memory, PredictorEngine
from airlam.realtime.layout import Array, Layout

WEAKEST = 3.0  # see Posterior.of: a quarter of a slow user's atoms, 3 % of a fast one's; costs less than 0.02 dB
STEADY = 0.02  # root mean square offset [rad] of a window's slots up to which a receiver needs no tracking


class PathEngine(PredictorEngine):
    """Paths as an :class:`airlam.realtime.Engine`.

    Args:
        predictor: ``paths`` or ``airlam-paths``. Of the latter the network that reads paths is used, not the model
            inside: averaging with it brings nothing here.
        shape: (subcarriers, rx_ants, tx_ants) of a slot.
        num_future: slots to predict.
        history: slots of a window.
        port_shape: (polarisations, columns, rows) of ``tx_ant``.
        compiled: see :func:`airlam.realtime.kernels.load`.

    Example:
        >>> from airlam.baselines.paths import PathPredictor
        >>> engine = PathEngine(PathPredictor(), (12, 1, 8), 4, port_shape=(2, 2, 2))
        >>> window = np.random.default_rng(0).standard_normal((16, 12, 1, 8)).astype(np.complex64)
        >>> out = np.empty((4, 12, 1, 8), np.complex64)
        >>> engine.advance(engine.refresh(window), window, 1, out)
    """

    def __init__(
        self,
        predictor: PathPredictor | AirlamPathsPredictor,
        shape: tuple[int, int, int],
        num_future: int,
        *,
        history: int = 16,
        port_shape: PortShape | None = None,
        compiled: bool | None = None,
    ) -> None:
        options: dict[str, Any] = {"history": history, "port_shape": port_shape, "compiled": compiled}
        super().__init__(predictor, shape, num_future, **options)
        self.network = predictor.model if isinstance(predictor, AirlamPathsPredictor) else None
        for option, plain in (("align", 0), ("calibrate", 0), ("views", 1)):
            if (value := getattr(predictor, option, None)) not in (None, plain):
                raise ValueError(f"{option} is {value}, but streams of paths do without; load the predictor without it")
        if self.network is not None and history > self.network.config.max_history:
            raise ValueError(
                f"history is {history}, but this checkpoint takes {self.network.config.max_history} slots at most"
            )
        tracker = None if self.network is None else self.network.inside.tracker
        self.tracker = None if tracker is None else self.kernels.Tracker(tracker, history)
        self._position = centres(shape[0]).numpy()
        self._work = None if self.tracker is None else self.tracker.scratch(history)
        self._scratch: dict[str, NDArray] = {}
        self._views: dict[tuple[str, tuple[int, ...]], NDArray] = {}

    # -- the slow clock --------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def refresh(self, window: NDArray, memory: Memory | None = None) -> Memory:
        """See :meth:`airlam.realtime.Engine.refresh`: the paths of ``memory`` are followed, or some are looked for."""
        h, tracked = self._tracked(window)
        h, scale = normalise(h)
        ((_, panel),) = by_panel(h, self.port_shape)
        x, search = as_panel(h, panel), self.search
        if memory is not None and tuple(memory["panel"]) == panel:
            earlier = torch.from_numpy(memory["shift"])[None]
            live, noise = torch.ones(earlier.shape[:2], dtype=torch.bool), torch.from_numpy(memory["noise"])
            paths = Paths.at(x, *track(x, (earlier, live, noise), search))
        else:
            paths = Paths.at(x, *find(x, search))
        if self.network is not None:
            statistics, most = self.network.statistics(paths)[0], self.network.config.num_atoms
            posterior = Posterior.of(paths, statistics, self.num_future, most, WEAKEST)
        else:
            assert isinstance(self.predictor, PathPredictor)
            posterior = extrapolated(
                paths, self.num_future, self.predictor.spread, self.predictor.slopes, self.predictor.learn, WEAKEST
            )
        return self._memory(posterior, float(scale)) | {
            **tracked,
            "panel": np.asarray(panel, np.int32),
            "shift": paths.shift[0, paths.live[0]].numpy(),
            "noise": paths.noise.numpy(),
        }

    @property
    def search(self) -> Search:
        """How hard paths are looked for."""
        if isinstance(self.predictor, PathPredictor):
            return self.predictor.search
        return self.predictor.model.config.search

    def _tracked(self, window: NDArray) -> tuple[Tensor, Memory]:
        """The window ``[1, slot, ...]`` without offsets of its slots' phase and timing, and what following them
        takes."""
        h, found = torch.from_numpy(window)[None], {"offsets": np.zeros(())}
        if self.tracker is None:
            return h, found
        turns = np.zeros((2, self.history), np.float32)
        products = self.tracker.products(self.history, self.shape[0])
        self.tracker.update(window, self.history, products, turns, self.tracker.scratch(self.history))
        if (size := float(np.sqrt(np.mean(turns**2)))) <= STEADY:
            return h, found
        found = {"offsets": np.asarray(size), "products": products, "turns": turns}
        return rotate(h, -torch.from_numpy(turns)[None]), found

    def _memory(self, posterior: Posterior, scale: float) -> Memory:
        """The posterior of one link of unit power, as plain arrays of the lines that its atoms use, for a link whose
        CSI is ``scale`` times as large."""
        paths, count = posterior.paths, posterior.paths.live.shape[1]
        tones, columns, rows = (wave[0] for wave in paths.waves())  # [path, kind, sample]
        space = (columns[..., :, None] * rows[..., None, :]).flatten(-2).transpose(0, 1).flatten(0, 1)  # [line, port]
        # a line is kind * path; those of kind 1 slope along subcarriers, all others have the path's own wave there
        wave_of = torch.arange(len(space)) % count + count * (torch.arange(len(space)) // count == 1)
        rank = wave_of.argsort(stable=True).argsort()  # of each line, by its wave
        order = rank[posterior.owner[0]].argsort(stable=True)
        lines, owner = posterior.owner[0][order].unique_consecutive(return_inverse=True)
        waves, row = wave_of[lines].unique_consecutive(return_inverse=True)
        return {
            "tones": single(torch.cat([tones[:, 0], tones[:, 1]])[waves]),
            "space": single(space[lines]),
            "row": row.to(torch.int32).numpy(),
            "seen": single(paths.seen[0].flatten(0, 1)[lines] * scale),
            "owner": owner.to(torch.int32).numpy(),
            "past": planes(posterior.past[0, order].conj() / scale),
            "inverse": planes(posterior.covariance[0][order][:, order]),
            "ahead": single(posterior.ahead[0, order] * scale),
            "variance": posterior.variance()[0].numpy() * scale**2,
        }

    def layout(self, memory: Memory) -> Layout:
        """See :meth:`PredictorEngine.layout`; the number of paths, and so of lines, waves and atoms, differs."""
        tones, rx_ants, tx_ants = self.shape
        panel = [int(n) for n in np.ravel(memory.get("panel", ()))]
        if len(panel) != 3 or min(panel) < 1 or math.prod(panel) != tx_ants:
            raise ValueError(f"panel is {panel}, but must be three whole numbers whose product is {tx_ants}")
        gains, slots = rx_ants * panel[0], self.history
        arrays = {
            "tones": Array("complex64", ("wave", tones)),
            "space": Array("complex64", ("line", panel[1] * panel[2])),
            "row": Array("int32", ("line",), "wave"),
            "seen": Array("complex64", ("line", gains, slots)),
            "owner": Array("int32", ("atom",), "line"),
            "past": Array("float64", (2, "atom", slots)),
            "inverse": Array("float64", (2, "atom", "atom")),
            "ahead": Array("complex64", ("atom", self.num_future)),
            "variance": Array("float64", (self.num_future,)),
            "offsets": Array("float64", ()),
            "panel": Array("int32", (3,)),
            "shift": Array("float64", ("path", 4)),
            "noise": Array("float64", (1,)),
        }
        if self.tracker is not None and "turns" in memory:
            products = self.tracker.products(slots, tones)
            arrays["products"] = Array(str(products.dtype), products.shape)
            arrays["turns"] = Array("float32", (2, slots))
        return arrays

    # -- the fast clock --------------------------------------------------------------------------------------------

    def advance(self, memory: Memory, window: NDArray, new: int, out: NDArray) -> None:
        """See :meth:`airlam.realtime.Engine.advance`."""
        tones, space, row, seen = memory["tones"], memory["space"], memory["row"], memory["seen"]
        (gains, _), ports, atoms = seen.shape[1:], space.shape[1], len(memory["owner"])
        along = self._array("along", (len(tones), gains * ports))
        turned = self._array("turned", (self.shape[0], gains * ports))
        for slot in self._steady(memory, window, new):
            np.conjugate(slot.reshape(turned.shape), out=turned)
            np.matmul(tones, turned, out=along)
            self.kernels.analyse(along, space, row, seen)
        # single precision does not do: the system's eigenvalues span as many decades as the signal has over the noise
        data = self._array("data", (2, gains, atoms), np.float64)
        weight = self._array("weight", (2, gains, atoms), np.float64)
        self.kernels.correlate(seen, memory["owner"], memory["past"], data)
        self.kernels.solve(memory["inverse"], data, weight)
        series = self._array("series", (len(space), gains, self.num_future))
        turned = self._array("reals", (2 * ports,), np.float32)
        rows = self._array("rows", (self.num_future, len(tones), gains * ports))
        self.kernels.spread(weight, memory["ahead"], memory["owner"], space, row, series, turned, rows)
        np.matmul(tones.T, rows, out=out.reshape(self.num_future, self.shape[0], gains * ports))

    def _steady(self, memory: Memory, window: NDArray, new: int) -> NDArray:
        """The newest slots, without a receiver's offsets of phase and timing where it had some at the last refresh."""
        if memory["offsets"] <= STEADY or not new:
            return window[len(window) - new :]
        assert self.tracker is not None
        self.tracker.update(window, new, memory["products"], memory["turns"], self._work)
        phase, slope = memory["turns"][:, -new:, None]
        return window[-new:] * np.exp(-1j * (phase + self._position * slope))[..., None, None].astype(np.complex64)

    def _array(self, name: str, shape: tuple[int, ...], kind: type = np.complex64) -> NDArray:
        """Scratch: as large as any user needed it, so that nothing is allocated after the first slots."""
        if (name, shape) not in self._views:
            size = math.prod(shape)
            if name not in self._scratch or self._scratch[name].size < size:
                self._scratch[name] = np.empty(size, kind)
                self._views = {key: view for key, view in self._views.items() if key[0] != name}
            self._views[name, shape] = self._scratch[name][:size].reshape(shape)
        return self._views[name, shape]


def single(x: Tensor) -> NDArray:
    """A contiguous array in single precision."""
    return np.ascontiguousarray(x.to(torch.complex64).resolve_conj().numpy())


def planes(x: Tensor) -> NDArray:
    """Real and imaginary part in double precision ``[2, ...]``."""
    return np.ascontiguousarray(torch.stack([x.real, x.imag]).double().numpy())
