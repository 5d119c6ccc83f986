"""The slow clock: everything from a link's window to the filters of the network."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from airlam.models.airlam_model import AirlamModel
from airlam.models.predictor import AirlamPredictor, _base
from airlam.models.spectral_model import SpectralModel
from airlam.models.tokens import START_SLOTS
from airlam.realtime.features import make_features, token_of_bins
from airlam.realtime.link import ARSettings, LinkShape, Series, num_classes
from airlam.realtime.moving_basis import FILTERED, Memory, MovingBasis
from airlam.realtime.network import fastest_network

Network = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, ...]]


def checked_model(predictor: AirlamPredictor) -> AirlamModel:
    """The model of a predictor whose computation is the one of this package."""
    if not isinstance(predictor, AirlamPredictor):
        kind = type(predictor).__name__
        raise TypeError(f"predictor is a {kind}, but must be airlam's own: load_predictor('airlam-tiny')")
    model = _base(predictor.model)
    if not predictor.correction or (predictor.views or model.config.views) != 1:
        raise ValueError("load the predictor without options: one view, and the learned correction on")
    if not model.config.forward_backward:
        raise ValueError("the checkpoint's bases are not averaged forward and backward, which the kernels rely on")
    return model  # type: ignore[return-value]


class Analyser:
    """From windows of one shape to the filters that predict them. Holds no scratch, so threads may share it if they
    may share the network."""

    def __init__(
        self,
        kernels: ModuleType,
        model: SpectralModel,
        link: LinkShape,
        network: Network | None = None,
        basis_every: int = 0,
    ):
        config = model.config
        if not 1 <= link.history <= config.max_history:
            raise ValueError(f"history is {link.history}, but must be from 1 to the model's {config.max_history}")
        self.kernels, self.config, self.link = kernels, config, link
        self.tracker = None if model.tracker is None else kernels.Tracker(model.tracker, link.history)
        self.token = token_of_bins(config, link.num_bins)
        self.network = network or fastest_network(model, int(self.token.max()) + 1)
        self.basis = MovingBasis(kernels, link, len(self.token), basis_every)
        self.classes = num_classes(config.start_classes, len(self.token))
        self.settings = ARSettings.by_class(
            config.start_order, config.start_ridge, config.start_shrinkage, link.history
        )

    def series(self) -> Series:
        """Scratch and steps of the AR filters, for one thread."""
        return Series(self.kernels, self.link, self.settings, len(self.token))

    def analyse(self, slots: np.ndarray, series: Series | None = None) -> tuple[Memory, np.ndarray]:
        """All steps up to the filters, from a window ``complex64 [history, subcarrier, rx_ant, tx_ant]``.

        Args:
            series: scratch that may be used; None: new scratch.

        Returns:
            What :meth:`MovingBasis.start` gives, and

            - ``products``, ``offsets``: of the phase tracker;
            - ``token int32 [bin]``: the token of each bin;
            - ``sums complex64 [class, slot, slot]``: products of slots, of which the AR filters are made;
            - ``weights float32 [token, 2, target, slot]``: the network's filters;
            - ``gate float32 [token]``: their share;
            - ``filter_frequency`` and so on, where the basis moves: the basis that the filters are of;

            and the classical prediction, ``float32 [2, slot, bin]``, some more slots than asked for maybe.
        """
        k, s = self.kernels, self.link
        offsets = np.zeros((2, s.history), np.float32)
        products = np.zeros((0, 0, 0), np.complex64)
        if self.tracker is not None:
            products = self.tracker.products(s.history, s.tones)
            self.tracker.update(slots, s.history, products, offsets, self.tracker.scratch(s.history))
        energy = s.energy()
        m = self.basis.start(slots, offsets, energy)
        kept = m["series"]
        sums = np.zeros((self.classes, s.history, s.history), np.complex64)
        k.multiply(kept, s.history, sums)
        start = np.zeros((2, max(s.num_future, START_SLOTS), kept.shape[2]), np.float32)
        (series or self.series()).predict(kept, sums, start)
        sizes = (s.tones, s.rx_ants, s.ports)
        inputs = make_features(k, self.config, kept, start, energy, m["rows"], m["cols"], sizes, s.filled)
        power, noise, gate = self.network(*inputs)[:3]
        tokens = inputs.noise.shape[1]
        weights = np.zeros((tokens, 2, s.num_future, s.history), np.float32)
        k.wiener_filters(power.reshape(tokens, -1), noise.reshape(tokens), weights)
        m |= {"products": products, "offsets": offsets, "token": self.token.copy(), "sums": sums}
        if self.basis.every:
            m |= {f"filter_{name}": m[name].copy() for name in FILTERED}
        m |= {"weights": weights, "gate": np.array(gate, np.float32).reshape(tokens)}
        return m, start
