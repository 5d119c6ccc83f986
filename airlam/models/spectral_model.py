"""Everything around the network: tokens from CSI, filters from spectra, CSI from filtered tokens.

See :mod:`airlam.models.airlam_model` for the whole; other networks (an exported one) share this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from airlam.csi import PortShape, check_port_shape, normalise, resolve_inputs
from airlam.models.config import AirlamConfig
from airlam.models.context import Readings, read_sensors
from airlam.models.doppler import wiener
from airlam.models.phase_tracker import PhaseTracker
from airlam.models.tokens import Tokens, make_tokens
from airlam.models.views import WEIGHTS


class Spectra(NamedTuple):
    """The output of the network for each token.

    Attributes:
        power: ``[link, token, grid]``, Doppler spectrum of unit total power.
        noise: ``[link, token]``, noise variance relative to it.
        gate: ``[link, token, 1]`` in (0, 1), the share of the filter's prediction in the blend with the start.
        log_scale: ``[link, token, 1]``, correction of the filter's own error variance; ``None`` without that head.
    """

    power: Tensor
    noise: Tensor
    gate: Tensor
    log_scale: Tensor | None


class Estimate(NamedTuple):
    """Of each kept bin, in units of ``Tokens.series``: ``series complex [link, bin, target]``, ``gate [link, bin, 1]``,
    ``variance [link, bin, target]`` of the error (``None`` without that head), and ``share [link, 1]``, the part of the
    weakest token's power that is signal."""

    series: Tensor
    gate: Tensor
    variance: Tensor | None
    share: Tensor

    def variances(self, tokens: Tokens) -> Tensor:
        """Error variances of all coefficients ``[link, coefficient, target]``, those that were left out too."""
        assert self.variance is not None
        kept = self.variance * tokens.scale.square()
        left_out = (tokens.power * self.share)[..., None].expand(-1, -1, kept.shape[-1])
        return left_out.scatter(1, tokens.index[..., None].expand_as(kept), kept)


class SpectralModel:
    """Everything around the network: tokens from CSI, filters from spectra, CSI from filtered tokens.

    A subclass brings :meth:`network`, ``config`` and ``tracker`` (``None`` without one).
    """

    config: AirlamConfig
    tracker: PhaseTracker | None

    def network(
        self, features: Tensor, log_periodogram: Tensor, noise: Tensor, readings: Readings | None = None
    ) -> Spectra:
        """Spectra of tokens (see :class:`Tokens`): all parts with learned weights, except the tracker."""
        raise NotImplementedError

    def spectra(self, tokens: Tokens) -> Spectra:
        """Embedding, backbone and head; the head alone where the backbone's output is given."""
        if tokens.hidden is not None:
            return self.read(tokens.hidden, tokens.log_periodogram, tokens.noise)
        return self.network(tokens.features, tokens.log_periodogram, tokens.noise, tokens.readings)

    def read(self, hidden: Tensor, log_periodogram: Tensor, noise: Tensor) -> Spectra:
        """Spectra from the backbone's output. Exported models have no such step: their graph holds backbone and
        head."""
        raise NotImplementedError

    def readings(self, context: dict[str, Any] | None, links: int) -> Readings | None:
        """Readings of the model's sensors, from a predictor's ``context``."""
        if context is None or not self.config.context:
            return None
        return read_sensors(context, self.config.context, links)

    def track(self, h_past: Tensor, observed: Tensor | None = None) -> Tensor:
        """Histories without the phase and timing offsets of their slots; unchanged if the model has no tracker.

        Only for histories over time (:class:`airlam.models.phase_tracker.PhaseTracker`); at most ``max_history`` slots.
        """
        return h_past if self.tracker is None else self.tracker(h_past, observed)

    def tokenize(
        self, h_past: Tensor, num_future: int, polarisations: int, observed: Tensor | None = None, view: int = 0
    ) -> Tokens:
        """See :func:`airlam.models.tokens.make_tokens`."""
        return make_tokens(self.config, h_past, num_future, polarisations, observed, view)

    def estimate(self, tokens: Tokens, targets: Tensor, observed: Tensor | None = None) -> Estimate:
        """Linear MMSE estimates of all kept bins at ``targets`` (slot ``slots`` is the first one of the future)."""
        spectra = self.spectra(tokens)
        seen = None if observed is None else observed[:, None, :]
        weights, variance = wiener(spectra.power, spectra.noise, tokens.series.shape[-1], targets, seen)
        weights = weights.to(tokens.series.dtype)
        n, size = tokens.singles, tokens.group_size
        single = (weights[:, :n] @ tokens.series[:, :n, :, None])[..., 0]
        grouped = tokens.series[:, n:].unflatten(1, (-1, size)) @ weights[:, n:].mT
        error = None
        if spectra.log_scale is not None:
            error = variance.clamp_min(1e-7).float() * torch.exp(spectra.log_scale.clamp(-8, 8))
            error = tokens.per_bin(error)
        series = torch.cat([single, grouped.flatten(1, 2)], 1)
        return Estimate(series, tokens.per_bin(spectra.gate), error, 1 / (1 + spectra.noise[:, -1:]))

    def predict_tokens(self, tokens: Tokens, num_future: int, observed: Tensor | None = None) -> Estimate:
        """As :meth:`estimate`, of the slots that follow, and blended with the start."""
        slots = tokens.series.shape[-1]
        targets = torch.arange(slots, slots + num_future, device=tokens.series.device)
        estimate = self.estimate(tokens, targets, observed)
        if tokens.start is None:
            return estimate
        start = tokens.start[..., :num_future] / tokens.scale
        return estimate._replace(series=start + estimate.gate * (estimate.series - start))

    @resolve_inputs
    def forward(
        self,
        h_past: Tensor,
        num_future: int,
        *,
        port_shape: PortShape | None = None,
        observed: Tensor | None = None,
        context: dict[str, Any] | None = None,
        views: int | None = None,
        correction: bool = True,
        track: bool = True,
    ) -> Tensor:
        """Predict.

        Args:
            h_past: measured CSI ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``.
            num_future: slots to predict.
            port_shape: (polarisations, columns, rows) of ``tx_ant``.
            observed: ``bool [link, slot]``, False where a slot was not measured.
            context: readings of other sensors (see :func:`airlam.models.context.read_sensors`), for a model with
                ``config.context``; others ignore it.
            views: bases that predictions are averaged over; None: ``config.views``.
            correction: False gives the classical start alone.
            track: whether phase and timing offsets of slots are removed; not where another axis plays the slots.

        Returns:
            ``complex64 [link, num_future, subcarrier, rx_ant, tx_ant]``.
        """
        x, scale, observed = self._enter(h_past, observed, track)

        def future(tokens: Tokens) -> tuple[Tensor]:
            if correction or tokens.start is None:
                series = self.predict_tokens(tokens, num_future, observed).series * tokens.scale
            else:
                series = tokens.start[..., :num_future]
            return (tokens.csi(series, h_past.shape[3]),)

        out = self._over_views(future, x, num_future, port_shape, observed, context, views)
        return scale * out[0]

    @resolve_inputs
    def forward_with_variance(
        self,
        h_past: Tensor,
        num_future: int,
        *,
        port_shape: PortShape | None = None,
        observed: Tensor | None = None,
        context: dict[str, Any] | None = None,
        views: int | None = None,
        covariance: bool = False,
        subcarriers: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`, and the variance of each entry's error, real, of the same shape; with ``covariance``
        that of the errors of all ports, ``complex64 [link, num_future, subcarrier, rx_ant, tx_ant, tx_ant]``, see
        :meth:`airlam.baselines.eigen_ar.Eigenbasis.inverse_covariance`.

        A coefficient that the model leaves out is predicted as zero, so its error is the coefficient itself. The
        variance of this error is the measured power times the share of it that is signal; the share of the weakest
        token is used for all of them. Errors of different coefficients are taken as uncorrelated. With several views
        the variances are averaged like the predictions; this is slightly more than the variance of the mean prediction.
        ``subcarriers`` are the indices of those that are wanted; None: all.
        """
        if not self.config.error_variance:
            raise ValueError("this checkpoint has no error variances; train one with AirlamConfig(error_variance=True)")
        x, scale, observed = self._enter(h_past, observed)

        def future_and_variance(tokens: Tokens) -> tuple[Tensor, Tensor]:
            estimate = self.predict_tokens(tokens, num_future, observed)
            variance = estimate.variances(tokens)
            if subcarriers is not None:
                wanted = tokens.basis._replace(frequency=tokens.basis.frequency[:, subcarriers])
                tokens = replace(tokens, basis=wanted)
            spread = tokens.basis.inverse_covariance if covariance else tokens.basis.inverse_power
            return tokens.csi(estimate.series * tokens.scale, h_past.shape[3]), spread(variance, h_past.shape[3])

        future, variance = self._over_views(future_and_variance, x, num_future, port_shape, observed, context, views)
        return scale * future, scale.square()[(...,) + (None,) * covariance] * variance

    def _over_views(
        self,
        predict: Callable[[Tokens], tuple[Tensor, ...]],
        x: Tensor,
        num_future: int,
        port_shape: PortShape | None,
        observed: Tensor | None,
        context: dict[str, Any] | None,
        views: int | None,
    ) -> list[Tensor]:
        """Weighted mean over the views of ``predict``'s results for their tokens."""
        polarisations = check_port_shape(x.shape[-1], port_shape)[0]
        readings = self.readings(context, len(x))
        total: list[Tensor] = []
        for view, weight in enumerate(WEIGHTS[views or self.config.views]):
            tokens = self.tokenize(x, num_future, polarisations, observed, view)
            tokens.readings = readings
            parts = [weight * part for part in predict(tokens)]
            total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
        return total

    def _enter(
        self, h_past: Tensor, observed: Tensor | None, track: bool = True
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Histories, normalised and (where asked to) tracked; the links' scale; ``observed`` (None where every slot
        was)."""
        h_past = h_past[:, -self.config.max_history :]
        if observed is not None:
            observed = observed[:, -self.config.max_history :]
            if bool(observed.all()):
                observed = None
            else:
                h_past = h_past * observed[:, :, None, None, None]
        x, scale = normalise(h_past)
        return self.track(x, observed) if track else x, scale, observed
