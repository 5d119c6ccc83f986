"""Streaming with an airlam checkpoint: the network now and then, all that follows the channel at every slot."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from airlam.csi import PortShape
from airlam.models.predictor import AirlamPredictor
from airlam.realtime.analysis import Analyser, Network, checked_model
from airlam.realtime.engine import Memory, PredictorEngine
from airlam.realtime.link import LIMIT, LinkShape


class SpectralEngine(PredictorEngine):
    """Prediction slot by slot with the filters of the last refresh.

    A refresh computes basis, filters and gates from the window. Every slot has its phase and timing offset removed and
    is projected onto the basis; the AR filters of the classical start are fitted anew to the newest window; the
    network's filters are applied to it. With ``basis_every`` the basis follows, too: bins of the new basis take over
    filter and gate of the bin of the last refresh that they overlap most.

    Args:
        predictor: a loaded checkpoint, one view.
        shape: (subcarriers, rx_ants, tx_ants) of a slot.
        num_future: slots to predict.
        history: slots of a window.
        port_shape: (polarisations, columns, rows) of ``tx_ant``.
        basis_every: slots after which the basis is computed anew; 0: at a refresh alone.
        network: for NumPy arrays, ``(features, log_periodogram, noise) -> (power, noise_variance, gate, ...)``; None:
            the checkpoint's own, in the fastest runtime of this machine. Calls never overlap.
        compiled: see :func:`airlam.realtime.kernels.load`.

    :meth:`advance` is for one thread; :meth:`refresh` may run in others meanwhile.
    """

    def __init__(
        self,
        predictor: AirlamPredictor,
        shape: tuple[int, int, int],
        num_future: int,
        *,
        history: int = 16,
        port_shape: PortShape | None = None,
        basis_every: int = 0,
        network: Network | None = None,
        compiled: bool | None = None,
    ):
        options: dict[str, Any] = {"history": history, "port_shape": port_shape, "compiled": compiled}
        super().__init__(predictor, shape, num_future, **options, basis_every=basis_every, network=network)
        self.link = LinkShape.of(shape, port_shape, history, num_future)
        self.analyser = Analyser(self.kernels, checked_model(predictor), self.link, network, basis_every)
        self.basis = self.analyser.basis
        self._one_network = threading.Lock()
        self._network = self.analyser.network
        self.analyser.network = self._options["network"] = self._alone
        self._series = self.analyser.series()
        tracker = self.analyser.tracker
        self._track = None if tracker is None else tracker.scratch(history)

    def _alone(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with self._one_network:  # a network may write to the same memory at each call
            return tuple(np.array(x) for x in self._network(*inputs))

    @property
    def bounds(self) -> dict[str, int]:
        of_bins = self.link.bounds | {"token": int(self.analyser.token.max()) + 1}
        return of_bins | {f"filter_{name}": bound for name, bound in of_bins.items()}

    def refresh(self, slots: np.ndarray, memory: Memory | None = None) -> Memory:
        """A user's memory from a full window ``complex64 [history, subcarrier, rx_ant, tx_ant]``; see
        :meth:`airlam.realtime.analysis.Analyser.analyse`."""
        return self.analyser.analyse(slots)[0]

    def advance(self, memory: Memory, slots: np.ndarray, new: int, out: np.ndarray) -> None:
        """Take the ``new`` newest of ``slots`` into ``memory`` and predict.

        Args:
            memory: from :meth:`refresh`; changed in place.
            slots: ``complex64 [history, subcarrier, rx_ant, tx_ant]``, newest last.
            new: slots that ``memory`` has not seen; 0: none.
            out: written, ``complex64 [num_future, subcarrier, rx_ant, tx_ant]``.
        """
        k, m, tracker = self.kernels, memory, self.analyser.tracker
        new = min(new, self.history)
        if new:
            if tracker is not None:
                tracker.update(slots, new, m["products"], m["offsets"], self._track)
            if self.basis.follow(m, slots, m["offsets"], new):
                new = self.history
        series, filters = (m["series"], new, m["sums"]), (m["weights"], m["token"], m["gate"])
        basis = (m["rows"], m["cols"], m["frequency"], m["port"])
        k.predict(*series, *self._series.settings, LIMIT, *filters, *basis, *self.basis.grids, self._series.future, out)
