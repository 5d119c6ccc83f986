"""A full prediction from a history that nothing is known of yet, through the kernels."""

from __future__ import annotations

import threading

import numpy as np
import torch
from torch import Tensor

from airlam.csi import PortShape, check_port_shape
from airlam.interfaces import any_scale
from airlam.models.predictor import AirlamPredictor
from airlam.realtime import kernels
from airlam.realtime.analysis import Analyser, Network, checked_model
from airlam.realtime.features import token_of_bins
from airlam.realtime.link import LinkShape, Series

MOST_SHAPES = 16  # of links whose arrays are kept; one with 80 tokens takes about 2 MB


class FastPredictor:
    """The predictions of an airlam checkpoint, link by link on one thread, with little time around the network.

    Values are those of the predictor to rounding. Where a link's covariances have almost equal eigenvalues (those of
    noise), rounding decides which basis spans them, in the predictor as here; the difference lies far below the noise.

    Args:
        predictor: a loaded checkpoint, one view.
        network: for NumPy arrays, ``(features [1, token, feature], log_periodogram [1, token, grid], noise [1, token])
            -> (power, noise_variance, gate, ...)``; None: the checkpoint's own, in the fastest runtime of this machine.
        compiled: see :func:`airlam.realtime.kernels.load`.

    Example:
        >>> from airlam.models import AirlamConfig, AirlamModel
        >>> model = AirlamModel(AirlamConfig(num_tokens=8, num_groups=0, forward_backward=True))
        >>> h_past = torch.randn(8, 6, 1, 4, dtype=torch.complex64)
        >>> FastPredictor(AirlamPredictor(model), compiled=False).predict(h_past, 2).shape
        torch.Size([2, 6, 1, 4])
    """

    def __init__(self, predictor: AirlamPredictor, network: Network | None = None, *, compiled: bool | None = None):
        self.model, self.name = checked_model(predictor), predictor.name
        self.kernels = kernels.load(compiled)
        self._network = network
        self._shapes: dict[LinkShape, tuple[Analyser, Series]] = {}
        self._networks: dict[int, Network] = {}  # by number of tokens: to find the fastest one takes 0.2 s
        self._lock = threading.Lock()  # scratch is for one thread

    @any_scale
    def predict(
        self, h_past: Tensor, num_future: int, *, port_shape: PortShape | None = None, context: dict | None = None
    ) -> Tensor:
        """See :meth:`airlam.interfaces.Predictor.predict`. Every slot must have been measured."""
        if context is not None and (context.get("observed") is not None or self.model.config.context):
            raise ValueError("histories with gaps, and readings of sensors, are for the predictor itself")
        shape = check_port_shape(h_past.shape[-1], port_shape)  # all else is checked before
        h = h_past[..., -self.model.config.max_history :, :, :, :].detach().cpu()
        slots = np.ascontiguousarray(h.to(torch.complex64).numpy()).reshape(-1, *h.shape[-4:])
        out = np.empty((len(slots), num_future, *slots.shape[2:]), np.complex64)
        link = LinkShape.of(slots.shape[2:], shape, slots.shape[1], num_future)
        with self._lock:
            analyser, series = self._of(link)
            for one, future in zip(slots, out, strict=True):
                self._one(analyser, series, one, future)
        future = torch.from_numpy(out).reshape(*h_past.shape[:-4], *out.shape[1:])
        return future.to(h_past.device, h_past.dtype)

    def _of(self, link: LinkShape) -> tuple[Analyser, Series]:
        """What predicts links of one shape; shapes that were not used for long are forgotten."""
        found = self._shapes.pop(link, None)
        if found is None:
            if len(self._shapes) >= MOST_SHAPES:
                del self._shapes[next(iter(self._shapes))]
            tokens = int(token_of_bins(self.model.config, link.num_bins).max()) + 1
            analyser = Analyser(self.kernels, self.model, link, self._network or self._networks.get(tokens))
            self._networks[tokens] = analyser.network
            found = analyser, analyser.series()
        self._shapes[link] = found
        return found

    def _one(self, analyser: Analyser, series: Series, slots: np.ndarray, out: np.ndarray) -> None:
        m, start = analyser.analyse(slots, series)
        future = np.ascontiguousarray(start[:, : len(out)])
        self.kernels.blend(m["series"], m["weights"], m["token"], m["gate"], future)
        analyser.basis.synthesise(m, future, out)
