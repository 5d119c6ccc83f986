"""Hidden tones, antennas or slots from measured ones, by an :class:`AirlamModel`.

The axis that was measured in part takes the role of the slots (:func:`airlam.csi.series_along`). The network gets the
measured samples on a lattice of equal steps and emits a spectrum for each token. The spectra give the linear MMSE
estimate of every sample of the axis.

Three choices matter more than the weights. A regular comb is given to the network as the coarsest lattice that fits
into the model's ``max_history``: 24 samples two tones apart, not two windows of 32 tones of which half are hidden. Over
tones the spectrum is a delay profile, which is one-sided: a comb with step ``k`` cannot distinguish delays that differ
by ``1 / (k * subcarrier spacing)``, and the one that is not negative is assumed. If the measured samples are one end of
the axis, the rest is predicted from them, with the classical start; tones are denoised first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from airlam.baselines.eigen_ar import place
from airlam.csi import PortShape, normalise, resolve_inputs, series_back
from airlam.interfaces import check_estimation_request, extreme_scale
from airlam.models.airlam_model import AirlamModel
from airlam.models.doppler import doppler_grid, wiener_at
from airlam.models.predictor import _base
from airlam.models.spectral_model import SpectralModel
from airlam.models.tokens import Tokens

SLACK = 0.05  # share of a comb's unambiguous delays that may be negative: timing is never perfect


class Window(NamedTuple):
    """One stretch of a series as the network sees it.

    Attributes:
        lattice: ``int [sample]``, its samples, equally far apart; measured or not.
        weight: ``[target]``, its weight in the estimate of each sample of the whole series.
    """

    lattice: Tensor
    weight: Tensor


def comb_step(observed: Tensor) -> int:
    """Largest step such that all measured samples of ``bool [sample]`` lie that far apart or a multiple of it."""
    places = observed.nonzero()[:, 0]
    steps = places.diff()
    return int(torch.gcd(steps, steps[:1].expand_as(steps)).min()) if len(steps) else 1


def windows(observed: Tensor, max_history: int) -> list[Window]:
    """The windows of a series: one if its measured samples fit into one, else several that overlap by half.

    Args:
        observed: ``bool [sample]``, at least one True.
        max_history: most samples of a window.
    """
    length, step = len(observed), comb_step(observed)
    # the finest lattice that fits: hidden samples between the measured ones help the network to tell aliases apart
    fits = [s for s in range(1, step + 1) if step % s == 0 and -(-length // s) <= max_history]
    step = fits[0] if fits else step
    places = observed.nonzero()[:, 0]
    lattice = torch.arange(int(places[0]) % step, length, step, device=observed.device)
    first, last = ((places[i] - lattice[0]) // step for i in (0, -1))
    room = max(0, len(lattice) - max_history)
    if last - first < max_history:
        starts = [min(int(first), room)]
    else:
        starts = sorted({*range(0, room, max(1, max_history // 2)), room})
    out, target = [], torch.arange(length, device=observed.device)
    for start in starts:
        part = lattice[start : start + max_history]
        if bool(observed[part].any()):
            middle, half = (part[0] + part[-1]) / 2, (part[-1] - part[0]) / 2 + step
            distance = (target - middle).abs()
            # a triangle; outside of it only where nobody else has anything to say
            out.append(Window(part, torch.where(distance < half, 1 - distance / half, 1e-6 / (1 + distance))))
    return out


def frequencies(model: SpectralModel, lattice_step: int, pilot_step: int, causal: bool) -> Tensor:
    """Frequency of each point of the spectrum, cycles per sample of the whole series: ``float64 [grid]``.

    Args:
        lattice_step: between the samples that the network saw. pilot_step: between the measured ones.
        causal: the spectrum is one of delays, which are not negative (a delay turns *against* the frequency).
    """
    nu = doppler_grid(model.config.doppler_grid) / lattice_step
    if not causal or pilot_step == 1:
        return nu
    highest = SLACK / pilot_step
    return highest - torch.remainder(highest - nu, 1 / pilot_step)


def estimate_window(
    model: SpectralModel, x: Tensor, observed: Tensor, window: Window, polarisations: int, *, causal: bool
) -> tuple[Tokens, Tensor, Tensor]:
    """Tokens of a window, and the estimate of each kept coefficient at every sample of the whole series, with the
    variance of its error.

    Args:
        x: ``complex64 [link, sample, ...]``, links of unit power; what stands in hidden samples must be zero.
        observed: ``bool [sample]``.

    Returns:
        :class:`Tokens`; ``complex64 [link, bin, sample]`` in units of ``Tokens.series``; variances ``[link,
        coefficient, sample]`` of all coefficients, in units of ``x``: the error of one that is left out is itself.
    """
    lattice = window.lattice
    seen = observed[lattice]
    with torch.no_grad():
        tokens = model.tokenize(x[:, lattice], 1, polarisations, seen.expand(len(x), -1))
    spectra = model.spectra(tokens)
    step = int(lattice[1] - lattice[0]) if len(lattice) > 1 else 1
    nu = frequencies(model, step, comb_step(observed), causal).to(x.device)
    targets = torch.arange(len(observed), device=x.device)
    weights, variance = wiener_at(spectra.power, spectra.noise, nu, lattice[seen], targets)
    weights, series = weights.to(tokens.series.dtype), tokens.series[..., seen]
    n = tokens.singles
    single = (weights[:, :n] @ series[:, :n, :, None])[..., 0]
    grouped = series[:, n:].unflatten(1, (-1, tokens.group_size)) @ weights[:, n:].mT
    # spectrum and noise are relative to each other; together they are the power of the token's series, which is one
    variance = variance.clamp_min(0) / (1 + spectra.noise[..., None])
    variance = tokens.per_bin(variance.to(tokens.scale.dtype)) * tokens.scale.square()
    signal = (tokens.power / (1 + spectra.noise[:, -1:]))[..., None].expand(-1, -1, len(observed))
    variance = signal.scatter(1, tokens.index[..., None].expand_as(variance), variance)
    return tokens, torch.cat([single, grouped.flatten(1, 2)], 1), variance


def leading_block(observed: Tensor) -> int:
    """How many samples come first where exactly those were measured, enough for a forecast of the others; else 0."""
    count = int(observed.sum())
    return count if 4 <= count < len(observed) and bool(observed[:count].all()) else 0


def filtered(
    model: SpectralModel, x: Tensor, observed: Tensor, polarisations: int, *, causal: bool, covariance: bool = False
) -> tuple[Tensor, Tensor | None]:
    """The linear MMSE estimate of a whole series ``complex64 [link, sample, ...]``, all windows together; zeros where
    hidden. With ``covariance`` also that of its errors over the ports, with one more axis of them."""
    total, spread = torch.zeros_like(x), None
    x, scale = normalise(x)
    weight = torch.zeros(x.shape[1], device=x.device)
    for window in windows(observed, model.config.max_history):
        tokens, series, variance = estimate_window(model, x, observed, window, polarisations, causal=causal)
        bins = place(series * tokens.scale, tokens.index, tokens.power.shape[1])
        total = total + window.weight[None, :, None, None, None] * tokens.basis.inverse(bins, x.shape[3])
        weight = weight + window.weight
        if covariance:
            part = tokens.basis.inverse_covariance(variance, x.shape[3])
            part = window.weight[None, :, None, None, None, None] * part
            spread = part if spread is None else spread + part
    share = weight[None, :, None, None, None]
    if spread is not None:
        spread = scale.square()[..., None] * spread / share[..., None]
    return scale * total / share, spread


class AirlamEstimator:
    """Channel estimation by an :class:`AirlamModel`: pilots on some tones, antennas or slots give all of them.

    Args:
        model: the model, or the same adapted by :func:`airlam.models.add_lora`.
        name: of the row in tables.
        chunk: links per forward pass, bounds the memory.

    Example:
        >>> import torch
        >>> from airlam.models import AirlamConfig, AirlamModel
        >>> estimator = AirlamEstimator(AirlamModel(AirlamConfig(num_tokens=16, num_groups=0)))
        >>> pilots = torch.arange(12) % 4 == 0
        >>> h = torch.randn(2, 4, 12, 1, 4, dtype=torch.complex64)              # other tones are not looked at
        >>> estimator.estimate(h, pilots, axis="subcarrier").shape
        torch.Size([2, 4, 12, 1, 4])
    """

    def __init__(self, model: AirlamModel, name: str = "airlam", *, chunk: int = 64):
        self.model, self.name, self.chunk = model.eval(), name, chunk

    @resolve_inputs
    def estimate(
        self,
        h_measured: Tensor,
        observed: Tensor | None = None,
        *,
        axis: str = "slot",
        port_shape: PortShape | None = None,
        context: dict | None = None,
    ) -> Tensor:
        """All of the CSI: hidden samples reconstructed, measured ones denoised. Computes in single precision.

        Args:
            h_measured: ``complex [..., slot, subcarrier, rx_ant, tx_ant]``; what stands in hidden samples is ignored,
                NaN included. Slots of one call share their statistics: one call with four slots gives a better estimate
                than four calls with one.
            observed: ``bool [sample]``, the same for all links, or ``bool [..., sample]``: True where a sample of
                ``axis`` was measured. None: everywhere.
            axis: which axis was measured in part: ``"slot"``, ``"subcarrier"``, or ``"column"`` of the panel.
            port_shape: (polarisations, columns, rows) of ``tx_ant``.
            context: part of the common interface; not used.

        Returns:
            ``complex``, shape, dtype and device of ``h_measured``. No link depends on another, and each is equivariant
            to its own global phase and scale.

        Raises:
            ValueError: shapes do not fit, a link without any measured sample, NaN or infinity in a measured one.
        """
        x, masks, fold = check_estimation_request(h_measured, observed, axis, port_shape)
        scale = extreme_scale(x)
        x = (x if scale is None else x / scale).to(torch.complex64)
        out = torch.zeros_like(x)
        if len(x):
            patterns, which = masks.unique(dim=0, return_inverse=True)
            with torch.inference_mode():
                for number, pattern in enumerate(patterns):
                    for index in (which == number).nonzero()[:, 0].split(self.chunk):
                        out[index] = self._estimate(x[index], pattern, fold, causal=axis == "subcarrier")
        out = out.to(h_measured.dtype)
        out = out if scale is None else out * scale
        lead = h_measured.shape[:-4]
        return series_back(out, axis, port_shape, h_measured.shape[-4:]).reshape(*lead, *h_measured.shape[-4:])

    def _estimate(self, x: Tensor, observed: Tensor, port_shape: PortShape, *, causal: bool) -> Tensor:
        model = _base(self.model)
        if leading_block(observed.flip(0)):
            # backwards: a conjugate series runs the other way with the same spectrum
            return self._estimate(x.flip(1).conj(), observed.flip(0), port_shape, causal=causal).flip(1).conj()
        out, _ = filtered(model, x, observed, port_shape[0], causal=causal)
        count = leading_block(observed)
        if count:
            past = (out if causal else x)[:, :count]  # over slots denoising first costs 0.1 to 0.4 dB
            future = model.forward(past, x.shape[1] - count, port_shape=port_shape, track=False)
            out = torch.cat([out[:, :count], future], 1)
        return out

    @resolve_inputs
    def estimate_with_covariance(
        self, h_measured: Tensor, observed: Tensor | None = None, *, port_shape: PortShape | None = None
    ) -> tuple[Tensor, Tensor]:
        """All tones from measured ones, and the covariance of each entry's errors over the transmit antennas.

        For robust precoders: the covariance says in which directions the denoised CSI still has errors.

        Args:
            h_measured, port_shape: see :meth:`estimate`.
            observed: ``bool [subcarrier]``, True where a tone was measured. None: everywhere.

        Returns:
            ``complex [..., slot, subcarrier, rx_ant, tx_ant]``, and the covariance ``E[e^H e]`` of the rows ``e = h -
            h_hat``, with one more ``tx_ant``.

        Example:
            >>> from airlam.models import AirlamConfig, AirlamModel
            >>> estimator = AirlamEstimator(AirlamModel(AirlamConfig(num_tokens=16, num_groups=0)))
            >>> h, c = estimator.estimate_with_covariance(torch.randn(3, 1, 12, 1, 4, dtype=torch.complex64))
            >>> c.shape
            torch.Size([3, 1, 12, 1, 4, 4])
        """
        x, masks, fold = check_estimation_request(h_measured, observed, "subcarrier", port_shape)
        pattern = masks[0] if len(masks) else torch.ones(x.shape[1], dtype=torch.bool)
        if bool((masks != pattern).any()):
            raise ValueError("observed must be one pattern for all links where covariances are asked for")
        scale = extreme_scale(x)
        x = (x if scale is None else x / scale).to(torch.complex64)
        estimates, covariances = [x[:0]], [x.new_zeros(0, *x.shape[1:], x.shape[-1])]
        with torch.inference_mode():
            for part in x.split(self.chunk):
                found = filtered(_base(self.model), part, pattern, fold[0], causal=True, covariance=True)
                assert found[1] is not None
                estimates.append(found[0])
                covariances.append(found[1])
        estimate, covariance = torch.cat(estimates), torch.cat(covariances)
        if scale is not None:
            estimate, covariance = estimate * scale, covariance * scale.square()[..., None]
        lead = h_measured.shape[:-4]
        estimate, covariance = (y.transpose(1, 2).to(h_measured.dtype) for y in (estimate, covariance))
        return estimate.reshape(h_measured.shape), covariance.reshape(*lead, *covariance.shape[1:])
