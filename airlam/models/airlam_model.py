"""The airlam backbone: CSI -> tokens -> transformer -> Doppler spectra -> predicted CSI.

0. *Receiver.* Phase and timing offsets of single slots are found and removed
   (:class:`airlam.models.phase_tracker.PhaseTracker`; where the checkpoint has one).
1. *Tokens.* The link's own eigenbasis (:class:`airlam.baselines.eigen_ar.Eigenbasis`) turns its history into series;
   the strongest become a token each, weaker ones a token per group, described by features that do not depend on a
   global phase or scale. So the same weights serve every array, band, history length and horizon.
2. *Backbone.* A Hugging Face transformer over the tokens of one link.
3. *Head.* Per token a Doppler power spectrum (the token's own periodogram, reshaped by the network), a noise level,
   and a gate. Spectrum and noise give the linear MMSE filter in closed form; the gate blends its prediction with
   that of the classical start (:func:`airlam.baselines.eigen_ar.class_filters`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from airlam.baselines.eigen_ar import Eigenbasis, class_filters, place, roll_out, strongest
from airlam.csi import PortShape, check_port_shape, normalise, resolve_inputs
from airlam.models.config import AirlamConfig
from airlam.models.context import ContextTokens, Readings, read_sensors
from airlam.models.doppler import periodogram, wiener
from airlam.models.fields import backbone_config, check_backbone_size, written_backbone
from airlam.models.linear import use_onednn
from airlam.models.phase_tracker import PhaseTracker
from airlam.models.views import WEIGHTS, view_basis

START_SLOTS = 4  # slots of the start's prediction that a token shows to the network
NUM_SCALARS = 10  # see AirlamModel.tokenize


@dataclass
class Tokens:
    """One batch of links as tokens. ``bin`` counts the kept coefficients, strongest first: those of the single tokens,
    then those of the groups.

    Attributes:
        features: ``[link, token, feature]``, real.
        log_periodogram: ``[link, token, grid]``.
        noise: ``[link, token]``, rough noise variance of a sample of the token's series.
        series: ``complex [link, bin, slot]``, each of unit mean power over its observed slots.
        scale: ``[link, bin, 1]``: coefficients = scale * series.
        start: ``complex [link, bin, slot]``, the classical prediction in units of the coefficients.
        taps: its filters, ``complex [link, bin, order]``.
        singles, group_size: number of single tokens, and of coefficients in a group.
        basis, index: how to get back to CSI.
        power: ``[link, coefficient]``, mean power of all coefficients of the link over the observed slots.
        readings: of other sensors; ``None``: none.
        hidden: the backbone's output, where it was computed elsewhere (:mod:`airlam.models.split`).
    """

    features: Tensor
    log_periodogram: Tensor
    noise: Tensor
    series: Tensor
    scale: Tensor
    start: Tensor | None
    taps: Tensor | None
    singles: int
    group_size: int
    basis: Eigenbasis
    index: Tensor
    power: Tensor
    readings: Readings | None = None
    hidden: Tensor | None = None

    def per_bin(self, x: Tensor) -> Tensor:
        """``[link, token, ...]`` -> ``[link, bin, ...]``: each member of a group gets its group's value."""
        return torch.cat([x[:, : self.singles], x[:, self.singles :].repeat_interleave(self.group_size, 1)], 1)

    def per_token(self, x: Tensor) -> Tensor:
        """``[link, bin, ...]`` -> ``[link, token, ...]``: the single ones, and the mean of each group."""
        return means_of_groups(x, self.singles, self.group_size)

    def csi(self, coefficients: Tensor, num_rx_ant: int) -> Tensor:
        """Coefficients ``[link, bin, slot]`` -> ``[link, slot, subcarrier, rx_ant, tx_ant]``, all others zero."""
        return self.basis.inverse(place(coefficients, self.index, self.power.shape[1]), num_rx_ant)


def means_of_groups(x: Tensor, singles: int, group_size: int) -> Tensor:
    """``[link, bin, ...]`` -> ``[link, token, ...]``; see :meth:`Tokens.per_token`."""
    grouped = x[:, singles:]
    if grouped.shape[1]:
        grouped = grouped.unflatten(1, (-1, group_size)).mean(2)
    return torch.cat([x[:, :singles], grouped], 1)


def filled_bins(h: Tensor, polarisations: int) -> int:
    """How many coefficients of the link's own eigenbasis a history ``[link, slot, subcarrier, rx_ant, tx_ant]`` fills.

    A covariance from ``n`` snapshots has rank ``n`` at most: a history of one antenna and 16 slots fills 16 of 52
    modes over subcarriers, and the other 36 hold zeros.

    Example:
        >>> filled_bins(torch.zeros(1, 16, 52, 1, 1), 1), filled_bins(torch.zeros(1, 16, 48, 1, 32), 2)
        (16, 1536)
    """
    _, slots, subcarriers, rx_ants, tx_ants = h.shape
    ports = tx_ants // polarisations
    by_tone = min(subcarriers, slots * rx_ants * tx_ants)
    return by_tone * rx_ants * polarisations * min(ports, slots * subcarriers * rx_ants)


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
        """Normalised histories ``[link, slot, subcarrier, rx_ant, tx_ant]`` -> :class:`Tokens`.

        Where ``observed [link, slot]`` is given there is no classical start: it needs every slot. ``view`` chooses the
        basis: :func:`airlam.models.views.view_basis`.
        """
        c = self.config
        slots = h_past.shape[1]
        basis = view_basis(view, h_past, polarisations, observed)
        bins = basis.forward(h_past)
        num_bins = bins.shape[1]
        seen = None if observed is None else observed[:, None, :]
        if seen is not None:
            bins = bins * seen
        singles = min(c.num_tokens, num_bins)
        groups = min(c.num_groups, (num_bins - singles) // c.group_size)
        kept, index = strongest(bins, singles + groups * c.group_size)
        start = taps = None
        if observed is None:
            taps = class_filters(
                kept,
                order=c.start_order,
                ridge=c.start_ridge,
                num_classes=c.start_classes,
                shrinkage=c.start_shrinkage,
            )
            start = roll_out(kept, taps, max(num_future, START_SLOTS))
        count = torch.full_like(kept.real[..., :1], slots) if seen is None else seen.sum(-1, keepdim=True)
        count = count.clamp_min(1)
        # Rough noise variance of a bin's sample: the mean over the weaker half of all bins. It is biased (low for few
        # slots, high for small arrays); the network corrects it. Bins that so short a history cannot fill hold neither
        # signal nor noise: they do not count.
        all_power = (bins.real.square() + bins.imag.square()).sum(-1) / count[:, :1, 0]
        filled = filled_bins(h_past, polarisations)
        weaker = max(1, filled // 2)
        lowest = weaker + num_bins - filled
        floor = all_power.topk(lowest, largest=False, sorted=False).values.mean(-1, keepdim=True)
        floor = (floor if filled == num_bins else floor * (lowest / weaker)) + 1e-9
        power = all_power.gather(1, index)[..., None]
        scale = power.clamp_min(1e-12).sqrt()
        series = kept / scale
        noise = (floor[..., None] / power.clamp_min(1e-12)).clamp(1e-6, 1.0)[..., 0]
        ports, subcarriers = basis.port.shape[-1], basis.frequency.shape[-1]
        # of each bin: noise, level, and the ranks of its modes, counted from the strongest
        ranks = torch.stack([ports - 1 - index % ports, subcarriers - 1 - index // (num_bins // subcarriers)], -1)
        facts = torch.cat([noise[..., None], torch.log(scale), torch.log1p(ranks.to(noise.dtype))], -1)

        noise, level, port_rank, frequency_rank = means_of_groups(facts, singles, c.group_size).unbind(-1)
        spectrum = means_of_groups(periodogram(series, c.doppler_grid, seen), singles, c.group_size)
        log_periodogram = torch.log(spectrum + 0.1 * noise[..., None] / slots + 1e-4)
        # The series as the network sees it, turned to the phase of the last slot that was measured. A group shows its
        # first member.
        first = torch.arange(singles + groups, device=index.device)
        first = torch.where(first < singles, first, singles + (first - singles) * c.group_size)
        shown = series[:, first]
        last = shown[..., -1:]
        if seen is not None:
            newest = (seen * torch.arange(1, slots + 1, device=seen.device)).argmax(-1, keepdim=True)
            last = shown.gather(-1, newest.expand(*shown.shape[:2], 1))
        turn = torch.sgn(last).conj()
        turn = torch.where(turn == 0, torch.ones_like(turn), turn)
        own = torch.view_as_real(nn.functional.pad(shown * turn, (c.max_history - slots, 0))).flatten(-2)
        if start is None:
            ahead = own.new_zeros(*own.shape[:2], 2 * START_SLOTS)
        else:
            ahead = torch.view_as_real((start / scale)[:, first, :START_SLOTS] * turn).flatten(-2).clamp(-4, 4)
        fraction = torch.ones_like(level) if seen is None else seen.to(level.dtype).mean(-1).expand_as(level)
        scalars = [
            -0.25 * torch.log(noise),
            level,
            level - level[:, :1],
            port_rank,
            frequency_rank,
            torch.full_like(level, math.log(ports)),
            torch.full_like(level, math.log(subcarriers)),
            torch.full_like(level, slots / c.max_history),
            fraction,
            (first >= singles).to(level.dtype).expand_as(level),
        ]
        features = torch.cat([own, ahead, 0.25 * log_periodogram + 1.0, torch.stack(scalars, -1)], -1)
        by_token = (features, log_periodogram, noise)
        return Tokens(*by_token, series, scale, start, taps, singles, c.group_size, basis, index, all_power)

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
            assert estimate.variance is not None
            variance = estimate.variance * tokens.scale.square()
            left_out = (tokens.power * estimate.share)[..., None].expand(-1, -1, num_future)
            variance = left_out.scatter(1, tokens.index[..., None].expand_as(variance), variance)
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


def build_backbone(spec: dict[str, Any] | str) -> PreTrainedModel:
    """A Hugging Face transformer from a configuration (random weights), a local folder or a hub id (its weights).

    Raises:
        ValueError: more than :data:`airlam.models.fields.MAX_PARAMETERS` parameters, or sizes that do not fit together.
    """
    if isinstance(spec, str):
        model = AutoModel.from_pretrained(spec)
    else:
        check_backbone_size(spec)
        model = AutoModel.from_config(backbone_config(spec))
    return model


def freeze_unused(model: PreTrainedModel) -> None:
    """Freeze what gets no gradient in a model on a backbone: word embeddings, pooler, the tracker of phases.

    Tokens are not words, nothing reads the pooler, and :class:`airlam.tasks.PhaseTracking` alone trains the tracker. A
    trainable parameter without a gradient makes distributed training fail.
    """
    backbone: Any = model.backbone
    unused = (backbone.get_input_embeddings(), getattr(backbone, "pooler", None), getattr(model, "tracker", None))
    for module in unused:
        if isinstance(module, nn.Module):
            module.requires_grad_(False)


class AirlamModel(SpectralModel, PreTrainedModel):
    """See the module's docstring.

    Example:
        >>> model = AirlamModel(AirlamConfig(num_tokens=32, num_groups=4)).eval()
        >>> h = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> model(h, 4, port_shape=(2, 4, 4)).shape
        torch.Size([2, 4, 48, 1, 32])
    """

    config_class = AirlamConfig
    base_model_prefix = "airlam"
    main_input_name = "h_past"
    _supports_sdpa = True

    def __init__(self, config: AirlamConfig):
        super().__init__(config)
        self.backbone = build_backbone(config.backbone)
        if isinstance(config.backbone, str):
            # from now on the weights travel with this model: a reload must not look for the folder or the hub again
            config.backbone = written_backbone(self.backbone.config)
        width = self.backbone.config.hidden_size
        grid = config.doppler_grid
        self.num_features = 2 * config.max_history + 2 * START_SLOTS + grid + NUM_SCALARS
        self.embedding = nn.Sequential(nn.Linear(self.num_features, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, grid + (3 if config.error_variance else 2))
        self.tracker = PhaseTracker(config.max_history) if config.phase_tracker else None
        self.context = ContextTokens(config.context, width) if config.context else None
        use_onednn(self)
        self.post_init()
        if self.tracker is not None:
            self.tracker.reset_gates()
        freeze_unused(self)
        # The head starts silent: spectrum = periodogram, noise = its rough estimate, gate at one half.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def untrained(self) -> AirlamModel:
        """A model of the same shape with random weights, the control for the benefit of pretraining.

        It has this model's tracker, because adaptation does not train the tracker. With a random tracker the control
        would be 1 dB worse for a reason that has nothing to do with the backbone.
        """
        fresh = AirlamModel(copy.deepcopy(self.config))
        if fresh.tracker is not None and self.tracker is not None:
            fresh.tracker.load_state_dict(self.tracker.state_dict())
        return fresh

    def add_tracker(self) -> None:
        """Give the model a new, untrained :class:`~airlam.models.phase_tracker.PhaseTracker` if it has none."""
        if self.tracker is None:
            self.config.phase_tracker = True
            self.tracker = PhaseTracker(self.config.max_history)
            self.tracker.reset_gates()

    def add_context(self, sensors: list[str]) -> None:
        """Give the model new, untrained tokens for readings of ``sensors`` (see :mod:`airlam.models.context`)."""
        self.config.context = AirlamConfig(context=sensors).context
        self.context = ContextTokens(self.config.context, self.backbone.config.hidden_size)
        self.context.apply(self._init_weights)

    def network(
        self, features: Tensor, log_periodogram: Tensor, noise: Tensor, readings: Readings | None = None
    ) -> Spectra:
        """Embedding, backbone and head."""
        # the backbone may be in bfloat16, everything before and after it is in single precision
        embedded = self.embedding(features).to(self.backbone.dtype)
        mask = None
        if self.context is not None and readings is not None:
            # behind the others, whose positions stay as in pretraining
            sensed, present = self.context(readings)
            mask = torch.cat([present.new_ones(embedded.shape[:2]), present], 1).long()
            embedded = torch.cat([embedded, sensed.to(embedded.dtype)], 1)
        hidden = self.backbone(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        return self.read(hidden[:, : features.shape[1]].to(features.dtype), log_periodogram, noise)

    def read(self, hidden: Tensor, log_periodogram: Tensor, noise: Tensor) -> Spectra:
        """The head: the backbone's output ``[link, token, width]`` becomes spectra."""
        out = self.head(self.norm(hidden))
        grid = self.config.doppler_grid
        power = torch.softmax(out[..., :grid] + log_periodogram, -1)
        noise = noise * torch.exp(out[..., grid].clamp(-8, 8)) + 1e-7
        gate = torch.sigmoid(out[..., grid + 1 : grid + 2].float())
        log_scale = None
        if self.config.error_variance:
            log_scale = out[..., -1:].float()  # see airlam.tasks.calibrate_variance
        return Spectra(power, noise, gate, log_scale)


AutoConfig.register("airlam", AirlamConfig, exist_ok=True)
AutoModel.register(AirlamConfig, AirlamModel, exist_ok=True)
