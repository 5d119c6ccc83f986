"""Prediction slot by slot: a slow refresh from time to time, and little work for every slot.

An :class:`~airlam.models.AirlamModel` spends most of its time on the link's basis and the spectra of its coefficients.
Both are statistics of the link, which change far more slowly than the channel itself. Only the samples that the filters
are applied to must be new. So a *refresh* computes basis and filters from the history, and a *push* projects one new
slot onto the basis and applies the filters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from airlam.baselines.eigen_ar import Eigenbasis, place, roll_out
from airlam.csi import PortShape, check_port_shape, resolve_inputs
from airlam.interfaces import check_csi, extreme_scale
from airlam.models.doppler import wiener
from airlam.models.inference import in_inference_mode
from airlam.models.predictor import AirlamPredictor, _base
from airlam.models.spectral_model import SpectralModel


@dataclass(frozen=True)
class LinkFilters:
    """The result of a refresh.

    Attributes:
        basis, index: the kept coefficients, ``num_bins`` of all.
        weights: ``complex64 [link, bin, target, slot]``, the filters of the network's spectra.
        taps: ``complex64 [link, bin, order]``, those of the classical start.
        gate: ``[link, bin, 1]``, the share of the former.
    """

    basis: Eigenbasis
    index: Tensor
    num_bins: int
    weights: Tensor
    taps: Tensor
    gate: Tensor

    def project(self, h: Tensor) -> Tensor:
        """CSI ``[link, slot, subcarrier, rx_ant, tx_ant]`` -> its kept coefficients ``[link, bin, slot]``."""
        bins = self.basis.forward(h)
        return bins.gather(1, self.index[..., None].expand(-1, -1, bins.shape[-1]))

    def apply(self, series: Tensor, num_rx_ant: int) -> Tensor:
        """Predict from the kept coefficients of the newest slots: ``[link, target, subcarrier, rx_ant, tx_ant]``."""
        filtered = (self.weights @ series[..., None])[..., 0]
        start = roll_out(series, self.taps, filtered.shape[-1])
        return self.basis.inverse(place(start + self.gate * (filtered - start), self.index, self.num_bins), num_rx_ant)


def link_filters(model: SpectralModel, h_past: Tensor, num_future: int, port_shape: PortShape | None) -> LinkFilters:
    """The filters that :meth:`AirlamModel.forward` would apply to ``h_past``, of the first view."""
    x, _, _ = model._enter(h_past, None)
    tokens = model.tokenize(x, num_future, check_port_shape(h_past.shape[-1], port_shape)[0])
    assert tokens.taps is not None
    slots = tokens.series.shape[-1]
    spectra = model.spectra(tokens)
    ahead = torch.arange(slots, slots + num_future, device=tokens.series.device)
    weights, _ = wiener(spectra.power, spectra.noise, slots, ahead)
    weights = tokens.per_bin(weights.to(tokens.series.dtype))
    return LinkFilters(
        tokens.basis, tokens.index, tokens.power.shape[1], weights, tokens.taps, tokens.per_bin(spectra.gate)
    )


class StreamingPredictor:
    """Predictions for links whose slots arrive one by one.

    Args:
        predictor: a loaded checkpoint.
        num_future: slots to predict after each new one.
        history: slots that a prediction uses.
        refresh_every: slots between refreshes. 1: every push gives exactly what the predictor would (to rounding).
            More: pushes in between take a tenth of the time, with a basis and spectra that are some slots old.
        port_shape: (polarisations, columns, rows) of ``tx_ant``.

    Example:
        >>> from airlam.models import AirlamConfig, AirlamModel, AirlamPredictor, StreamingPredictor
        >>> predictor = AirlamPredictor(AirlamModel(AirlamConfig(num_tokens=8, num_groups=0)))
        >>> stream = StreamingPredictor(predictor, num_future=2, history=8)
        >>> for slot in torch.randn(12, 1, 6, 1, 4, dtype=torch.complex64):
        ...     h_future = stream.push(slot)
        >>> h_future.shape
        torch.Size([1, 2, 6, 1, 4])
    """

    def __init__(
        self,
        predictor: AirlamPredictor,
        num_future: int,
        *,
        history: int = 16,
        refresh_every: int = 8,
        port_shape: PortShape | None = None,
    ):
        if not isinstance(predictor, AirlamPredictor):
            raise TypeError(
                f"predictor is a {type(predictor).__name__}, but only airlam's own checkpoints stream: "
                "load_predictor('airlam-tiny')"
            )
        model = _base(predictor.model)
        if not predictor.correction or (predictor.views or model.config.views) != 1:
            raise ValueError("a stream has one view and the learned correction on; load the predictor without options")
        if not 2 <= history <= model.config.max_history:
            raise ValueError(f"history is {history}, but must be from 2 to the model's {model.config.max_history}")
        for name, value in (("num_future", num_future), ("refresh_every", refresh_every)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}, but must be a whole number of at least 1")
        self.model, self.num_future, self.history = model, num_future, history
        self.refresh_every, self.port_shape = refresh_every, port_shape
        self._slots: Tensor | None = None
        self._series: Tensor | None = None
        self._filters: LinkFilters | None = None
        self._age = 0

    @property
    def age(self) -> int:
        """Slots since the last refresh."""
        return self._age

    @in_inference_mode
    @resolve_inputs
    def push(self, h_slot: Tensor) -> Tensor:
        """Take the newest measured slot of every link, and predict.

        Args:
            h_slot: ``complex [link, subcarrier, rx_ant, tx_ant]``; the same links at every call.

        Returns:
            ``complex64 [link, num_future, subcarrier, rx_ant, tx_ant]``. While fewer than ``history`` slots have
            arrived, from what is there.
        """
        if not isinstance(h_slot, Tensor) or h_slot.dim() != 4:
            shape = tuple(h_slot.shape) if isinstance(h_slot, Tensor) else type(h_slot).__name__
            raise ValueError(f"h_slot is {shape}, but must be a tensor [link, subcarrier, rx_ant, tx_ant]")
        if h_slot.shape[0] == 0:
            return h_slot.new_zeros(0, self.num_future, *h_slot.shape[1:])
        h = check_csi(h_slot[:, None], name="h_slot")
        check_port_shape(h.shape[-1], self.port_shape)
        if extreme_scale(h) is not None:
            raise ValueError("h_slot holds links whose mean power lies outside [1e-12, 1e12]; scale them first")
        h = h.to(torch.complex64)
        if self._slots is None:
            self._slots = h
        else:
            if h.shape != self._slots[:, :1].shape:
                raise ValueError(
                    f"h_slot is {tuple(h_slot.shape)}, but the slots before it were "
                    f"{tuple(self._slots[:, 0].shape)}; other links need a stream of their own"
                )
            self._slots = torch.cat([self._slots[:, -self.history + 1 :], h], 1)
        self._age += 1
        growing = self._series is None or self._series.shape[-1] < self.history
        if growing or self._age >= self.refresh_every:
            self.refresh()
        else:
            assert self._filters is not None and self._series is not None
            newest = self.model.track(self._slots)[:, -1:] if self.model.tracker is not None else h
            self._series = torch.cat([self._series[..., 1:], self._filters.project(newest)], -1)
        assert self._filters is not None and self._series is not None
        return self._filters.apply(self._series, h.shape[3])

    @torch.inference_mode()
    def refresh(self) -> None:
        """Find basis and filters anew from the slots that are there; :meth:`push` does so by itself when due."""
        if self._slots is None:
            raise ValueError("nothing to refresh from: push a slot first")
        self._filters = link_filters(self.model, self._slots, self.num_future, self.port_shape)
        self._series = self._filters.project(self.model.track(self._slots))
        self._age = 0
