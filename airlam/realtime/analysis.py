"""The slow clock: everything from a link's window to the filters of the network."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch

from airlam.models.airlam_model import AirlamModel
from airlam.models.predictor import AirlamPredictor, _base
from airlam.models.spectral_model import SpectralModel
from airlam.models.tokens import START_SLOTS
from airlam.realtime.features import make_features, token_of_bins
from airlam.realtime.link import ARSettings, LinkShape, Series, num_classes

Network = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, ...]]


class Analysis(NamedTuple):
    """What :meth:`Analyser.analyse` finds.

    Attributes:
        products, offsets: of the phase tracker.
        frequency, port: ``float32 [subcarrier, mode]``, ``[polarisation, port, mode]``, of folded axes.
        tone_covariance, port_covariance: of which they are the eigenvectors.
        rows, cols, token: ``int32 [bin]``, where the kept bins are, strongest first, and the token of each.
        series: ``float32 [2, slot, bin]``, those bins over the window.
        sums: ``complex64 [class, slot, slot]``, products of their slots.
        weights: ``float32 [token, 2, target, slot]``, the network's filters.
        gate: ``float32 [token]``, their share.
        folded: ``float32 [polarisation, subcarrier, slot, 2, rx_ant, port]``, the window.
        start: ``float32 [2, slot, bin]``, the classical prediction.
    """

    products: np.ndarray
    offsets: np.ndarray
    frequency: np.ndarray
    port: np.ndarray
    tone_covariance: np.ndarray
    port_covariance: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    token: np.ndarray
    series: np.ndarray
    sums: np.ndarray
    weights: np.ndarray
    gate: np.ndarray
    folded: np.ndarray
    start: np.ndarray


def torch_network(model: SpectralModel) -> Network:
    """The model's own network for NumPy arrays."""

    def network(*inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with torch.inference_mode():
            return tuple(x.numpy() for x in model.network(*map(torch.from_numpy, inputs)) if x is not None)

    return network


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
    """From windows of one shape to their :class:`Analysis`. Holds no scratch, so threads may share it if they may
    share the network."""

    def __init__(self, kernels: ModuleType, model: SpectralModel, shape: LinkShape, network: Network | None = None):
        config = model.config
        if not 1 <= shape.history <= config.max_history:
            raise ValueError(f"history is {shape.history}, but must be from 1 to the model's {config.max_history}")
        self.kernels, self.config, self.shape = kernels, config, shape
        self.network = network or torch_network(model)
        self.tracker = None if model.tracker is None else kernels.Tracker(model.tracker, shape.history)
        self.token = token_of_bins(config, shape.num_bins)
        self.classes = num_classes(config.start_classes, len(self.token))
        self.settings = ARSettings.by_class(
            config.start_order, config.start_ridge, config.start_shrinkage, shape.history
        )

    def series(self) -> Series:
        """Scratch and steps of the AR filters, for one thread."""
        return Series(self.kernels, self.shape, self.settings, len(self.token), self.classes)

    def analyse(self, slots: np.ndarray, series: Series | None = None) -> Analysis:
        """All steps up to the filters, from a window ``complex64 [history, subcarrier, rx_ant, tx_ant]``."""
        k, s = self.kernels, self.shape
        bins = len(self.token)
        offsets = np.zeros((2, s.history), np.float32)
        products = np.zeros((0, 0, 0), np.complex64)
        if self.tracker is not None:
            products = self.tracker.products(s.history, s.tones)
            self.tracker.update(slots, s.history, products, offsets, self.tracker.scratch(s.history))
        folded, half, coefficients = s.folded(s.history), s.folded(s.history), s.folded(s.history)
        k.fold(slots, offsets, 0, folded)
        tone, port = np.zeros((s.tones, s.tones), np.float32), np.zeros((s.polarisations, s.ports, s.ports), np.float32)
        frequency, modes = np.zeros_like(tone), np.zeros_like(port)
        k.covariances(folded, tone, port)
        k.eigenvectors(tone, port, frequency, modes)
        k.project(folded, frequency, modes, half, coefficients)
        energy, rows, cols = s.energy(), np.zeros(bins, np.int32), np.zeros(bins, np.int32)
        k.energies(coefficients, energy)
        k.pick(energy, rows, cols)
        kept = np.zeros((2, s.history, bins), np.float32)
        k.gather(coefficients, 0, rows, cols, kept)
        sums = np.zeros((self.classes, s.history, s.history), np.complex64)
        k.multiply(kept, s.history, sums)
        start = np.zeros((2, max(s.num_future, START_SLOTS), bins), np.float32)
        (series or self.series()).predict(kept, sums, start)
        inputs = make_features(self.config, kept, start, energy, rows, cols, (s.tones, s.rx_ants, s.ports), s.filled)
        power, noise, gate = self.network(*inputs)[:3]
        tokens = inputs.noise.shape[1]
        weights = np.zeros((tokens, 2, s.num_future, s.history), np.float32)
        k.wiener_filters(np.ascontiguousarray(power).reshape(tokens, -1), np.array(noise).reshape(tokens), weights)
        gate = np.array(gate, np.float32).reshape(tokens)
        return Analysis(
            products,
            offsets,
            frequency,
            modes,
            tone,
            port,
            rows,
            cols,
            self.token.copy(),
            kept,
            sums,
            weights,
            gate,
            folded,
            start,
        )
