"""What a model is trained on: the prediction error of each link, evaluated on tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from airlam.csi import PortShape, check_port_shape, normalise
from airlam.models import AirlamModel, SpectralModel, Tokens
from airlam.models.estimator import estimate_window, filtered, leading_block, windows


def energy(x: Tensor) -> Tensor:
    """Energy of each link: sum of ``|x|^2`` over all axes but the first."""
    return (x.real.square() + x.imag.square()).flatten(1).sum(-1)


@dataclass
class ForecastError:
    """NMSE of each link ``[link]``: with the learned correction, and of the classical start alone."""

    nmse: Tensor
    start: Tensor


class Target(NamedTuple):
    """A batch as tokens, and what they should tell.

    Attributes:
        tokens: of the measured histories. kept: the truth of their coefficients ``complex [link, bin, slot]``.
        lost: energy of the coefficients that are left out ``[link]``; total: of all.
        skip: future slots that do not count, the first ones.
        slots: indices of the slots to estimate; None: a forecast of those that follow.
        seen: ``bool [link, slot]``, the slots of the history that were measured; None: all.
    """

    tokens: Tokens
    kept: Tensor
    lost: Tensor
    total: Tensor
    skip: int = 0
    slots: Tensor | None = None
    seen: Tensor | None = None

    def told(self, model: SpectralModel) -> Tensor:
        """What the model says of :attr:`kept`."""
        if self.slots is not None:
            return model.estimate(self.tokens, self.slots, self.seen).series * self.tokens.scale
        num_future = self.skip + self.kept.shape[-1]
        return model.predict_tokens(self.tokens, num_future).series[..., self.skip :] * self.tokens.scale

    def error(self, told: Tensor) -> Tensor:
        """NMSE of each link ``[link]`` over the slots that count."""
        return (energy(told - self.kept) + self.lost) / self.total

    def start_error(self) -> Tensor:
        """NMSE of each link of the classical start alone, in a forecast."""
        assert self.tokens.start is not None  # for the type checker: every slot of the history was measured
        return self.error(self.tokens.start[..., self.skip : self.skip + self.kept.shape[-1]])

    def part(self, links: slice, first: int = 0, stop: int | None = None) -> Target:
        """Some links, and of those the tokens ``first <= t < stop``; ``lost`` and ``total`` stay those of the whole
        links."""
        stop = self.tokens.features.shape[1] if stop is None else stop
        tokens = self.tokens.part(links, first, stop)
        begin = self.tokens.bin_of(first)
        kept = self.kept[links, begin : begin + tokens.series.shape[1]]
        seen = None if self.seen is None else self.seen[links]
        return self._replace(tokens=tokens, kept=kept, lost=self.lost[links], total=self.total[links], seen=seen)

    def double(self) -> Target:
        """The same numbers in double precision."""
        return self._replace(
            tokens=self.tokens.double(),
            kept=self.kept.to(torch.complex128),
            lost=self.lost.double(),
            total=self.total.double(),
        )


@torch.no_grad()
def forecast_target(
    model: SpectralModel,
    h_past: Tensor,
    h_future: Tensor,
    port_shape: PortShape | None = None,
    *,
    skip: int = 0,
    track: bool = True,
) -> Target:
    """The part of :func:`forecast_error` that needs no gradient."""
    num_future = h_future.shape[1]
    h_past = h_past[:, -model.config.max_history :]
    x, scale = normalise(h_past)
    x = model.track(x) if track else x
    tokens = model.tokenize(x, num_future, check_port_shape(x.shape[-1], port_shape)[0])
    truth = tokens.basis.forward(h_future[:, skip:] / scale)
    total = energy(truth).clamp_min(torch.finfo(truth.real.dtype).tiny)
    kept = truth.gather(1, tokens.index[..., None].expand(-1, -1, num_future - skip))
    return Target(tokens, kept, (total - energy(kept)).clamp_min(0), total, skip)


def forecast_error(
    model: SpectralModel,
    h_past: Tensor,
    h_future: Tensor,
    port_shape: PortShape | None = None,
    context: dict[str, Any] | None = None,
    *,
    skip: int = 0,
    track: bool = True,
) -> ForecastError:
    """Prediction error of each link, the model's as a function of its weights.

    The basis is unitary, so the error of the CSI is that of the coefficients, plus the energy of those left out;
    nothing has to be transformed back.

    Args:
        h_past: measured, ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``.
        h_future: true, ``[link, future slot, ...]``.
        context: readings of other sensors; a batch of :class:`airlam.data.CSIDataModule` has them.
        skip: future slots that do not count, the first ones.
        track: whether phase and timing offsets of slots are removed; not where another axis plays the slots.
    """
    target = forecast_target(model, h_past, h_future, port_shape, skip=skip, track=track)
    target.tokens.readings = model.readings(context, len(h_past))
    return ForecastError(predicted_error(model, target), target.start_error())


def predicted_error(model: SpectralModel, target: Target) -> Tensor:
    """NMSE of each link ``[link]`` as a function of the model's weights (and of ``target.tokens.hidden``, if given)."""
    return target.error(target.told(model))


@torch.no_grad()
def reconstruction_target(
    model: SpectralModel, h_past: Tensor, truth: Tensor, observed: Tensor, port_shape: PortShape | None = None
) -> Target:
    """The part of :func:`reconstruction_error` that needs no gradient."""
    slots = h_past.shape[1]
    hidden = torch.ones(truth.shape[1], dtype=torch.bool, device=observed.device)
    hidden[:slots] = ~observed
    wanted = hidden.nonzero()[:, 0]
    x, scale = normalise(h_past * observed[None, :, None, None, None])
    seen = observed.expand(x.shape[0], slots)
    tokens = model.tokenize(x, 1, check_port_shape(x.shape[-1], port_shape)[0], seen)
    true = tokens.basis.forward(truth[:, wanted] / scale)
    total = energy(true).clamp_min(torch.finfo(true.real.dtype).tiny)
    kept = true.gather(1, tokens.index[..., None].expand(-1, -1, len(wanted)))
    return Target(tokens, kept, (total - energy(kept)).clamp_min(0), total, 0, wanted, seen)


def reconstruction_error(
    model: AirlamModel, h_past: Tensor, truth: Tensor, observed: Tensor, port_shape: PortShape | None = None
) -> Tensor:
    """Error of masked slots: the model sees the slots of ``observed`` and estimates the others.

    Args:
        h_past: measured, all slots ``[link, slot, ...]``.
        truth: true CSI of the same slots (and, if longer, of the slots that follow).
        observed: ``bool [slot]``, at least one True; the same for all links of the batch.

    Returns:
        ``[link]``: error energy over the hidden (and following) slots, relative to the true energy there.
    """
    return predicted_error(model, reconstruction_target(model, h_past, truth, observed, port_shape))


def estimation_error(
    model: SpectralModel,
    measured: Tensor,
    truth: Tensor,
    observed: Tensor,
    wanted: Tensor,
    port_shape: PortShape | None = None,
    *,
    causal: bool = False,
) -> Tensor:
    """Error of :class:`airlam.models.AirlamEstimator` on a series, as a function of the model's weights.

    Of a series with several windows, the first one's share. Where a block at the beginning was measured, the forecast
    from it is what learns, and denoising what it is.

    Args:
        measured, truth: series ``[link, sample, ...]`` of :func:`airlam.csi.series_along`.
        observed, wanted: ``bool [sample]``, the same for all links; behind a measured block all samples from the
            first wanted one on.
        causal: the series runs over tones; see :func:`airlam.models.estimator.frequencies`.

    Returns:
        ``[link]``: error energy over the wanted samples, relative to the true energy there.
    """
    polarisations = check_port_shape(measured.shape[-1], port_shape)[0]
    count = leading_block(observed)
    if count and not bool(wanted[:count].any()):
        skip = int(wanted.nonzero()[0, 0]) - count
        with torch.no_grad():
            past = measured * observed[None, :, None, None, None]
            if causal:
                past, _ = filtered(model, past, observed, polarisations, causal=True)
        return forecast_error(model, past[:, :count], truth[:, count:], port_shape, skip=skip, track=False).nmse
    x, scale = normalise(measured * observed[None, :, None, None, None])
    every = windows(observed, model.config.max_history)
    window = every[0]
    if len(every) > 1:
        wanted = wanted & (window.weight > 1e-3)
    tokens, series, _ = estimate_window(model, x, observed, window, polarisations, causal=causal)
    with torch.no_grad():
        target = tokens.basis.forward(truth[:, wanted] / scale)
        total = energy(target).clamp_min(torch.finfo(target.real.dtype).tiny)
        kept = target.gather(1, tokens.index[..., None].expand(-1, -1, target.shape[-1]))
        lost = (total - energy(kept)).clamp_min(0)
    return (energy(series[..., wanted] * tokens.scale - kept) + lost) / total
