r"""Beamforming from fewer uplink pilots than antennas.

A base station with few radio chains receives pilot ``l`` of a user through the combining vector ``a_l`` of its array:
``y_l = a_l h + n``. With fewer pilots than antennas least squares has no unique solution. Linear MMSE needs a
covariance, which is that of the cell and the same for every user. Here a network estimates from one user's pilots on
all tones from which directions and at which delays that user's channel comes.

Tones are unitarily transformed to taps: by the eigenmodes of the cell's long-term covariance over tones, which leak
less than the inverse DFT, or by the inverse DFT if the covariance is unknown. The channel of tap ``d`` is modelled as
:math:`h_d = R^{1/2} B\,g_d` with independent coefficients of power :math:`q_{dg}`: ``B`` is a fixed grid of directions,
``R`` the long-term covariance of the antennas (identity if unknown). For :math:`q_{dg}=\lambda_d` that is the cell's
linear MMSE prior. A few steps of a
separable model (:func:`separable_powers`) fit :math:`q_{dg} = \lambda_d p_g` to the user: the start. The network, with
one token per tap on the pretrained backbone, corrects the logarithms. Given the powers, mean and covariance of the
channel follow in closed form. Both go to the precoder; the network is trained for the rate on the true channel.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig

from airlam.csi import PortShape, check_port_shape, dft_codebook, resolve_inputs
from airlam.interfaces import Precoder, all_finite
from airlam.models.backbone import build_backbone, freeze_unused
from airlam.models.config import DEFAULT_BACKBONE
from airlam.models.fields import check_backbone, refuse_unknown_fields
from airlam.models.inference import in_inference_mode
from airlam.models.linear import use_onednn
from airlam.models.on_backbone import OnBackbone

GRID = 8  # directions along columns, and along rows
DIRECTIONS = 2 * GRID * GRID  # of two polarisations; a panel of one leaves half of the features zero
TAP_FACTS = 8
EM_STEPS = 3


class AirlamPilotsConfig(PretrainedConfig):
    """What an :class:`AirlamPilots` is made of.

    Args:
        backbone: configuration of the transformer over delay taps, any Hugging Face model type that accepts
            ``inputs_embeds``.

    Example:
        >>> AirlamPilotsConfig().model_type
        'airlam-pilots'
    """

    model_type = "airlam-pilots"

    def __init__(self, backbone: dict[str, Any] | None = None, **kwargs: Any):
        refuse_unknown_fields(type(self), ("backbone",), kwargs)
        self.backbone = check_backbone(dict(DEFAULT_BACKBONE) if backbone is None else backbone)
        super().__init__(**kwargs)


def directions(port_shape: PortShape) -> Tensor:
    """The grid ``complex64 [tx_ant, direction]``: DFT beams over columns and rows, one block a polarisation; a tight
    frame where the panel has at most :data:`GRID` columns and rows: ``B B^H = GRID^2 / (columns rows) I``."""
    _, columns, rows = port_shape
    if max(columns, rows) > GRID:
        raise ValueError(f"port_shape has {columns} columns and {rows} rows, but pilots are read for at most {GRID}")
    return dft_codebook(port_shape, GRID).conj()


def tap_modes(num_subcarriers: int, covariance: Tensor | None) -> tuple[Tensor, Tensor]:
    """The unitary ``complex64 [subcarrier, tap]`` that makes tones of taps, and the long-term power of each tap (mean
    1): eigenmodes of ``covariance [subcarrier, subcarrier]``, strongest first; or the DFT."""
    if covariance is None:
        tones = torch.eye(num_subcarriers, dtype=torch.complex64)
        return torch.fft.fft(tones, dim=0, norm="ortho"), torch.ones(num_subcarriers)
    if covariance.shape != (num_subcarriers, num_subcarriers):
        raise ValueError(f"tone_covariance {tuple(covariance.shape)} must be [{num_subcarriers}, {num_subcarriers}]")
    wide = covariance.to(torch.complex128)
    power, modes = torch.linalg.eigh(0.5 * (wide + wide.mH))
    power = power.flip(0).clamp_min(0)
    return modes.flip(1).to(torch.complex64), (power / power.mean().clamp_min(1e-30)).float()


def separable_powers(y: Tensor, phi: Tensor, noise: Tensor, steps: int = EM_STEPS) -> tuple[Tensor, Tensor]:
    """Powers ``lambda [user, tap]`` (mean 1) and ``p [user, direction]`` of the separable model.

    In the manner of M. E. Tipping, "Sparse Bayesian learning and the relevance vector machine", J. Mach. Learn. Res.
    2001: posterior energies, of which the prior variances follow, here tied to products. Taps count by their power,
    which few noisy ones need, so it is no strict ascent of the likelihood.

    Args:
        y: pilots of each tap ``complex [user, tap, pilot]``, users of unit power. phi: response of the pilots to each
            direction ``[user or 1, pilot, direction]``. noise: ``[user, 1]``.
    """
    energy = y.abs().square().mean(-1)
    taps = (energy - noise).clamp_min(0.02 * energy).clamp_min(1e-9)
    taps = taps / taps.mean(-1, keepdim=True)
    power = torch.full((len(y), phi.shape[-1]), 0.25, device=y.device)
    phi = phi.expand(len(y), -1, -1)
    for _ in range(steps):
        values, vectors = torch.linalg.eigh((phi * power[:, None]) @ phi.mH)
        seen = values.clamp_min(0)[:, None] * taps[..., None] + noise[..., None]  # [user, tap, mode]
        modes = y @ vectors.conj()
        back = phi.mH @ vectors  # [user, direction, mode]
        prior = taps[..., None] * power[:, None]
        mean = prior * ((modes / seen) @ back.mT)
        explained = (1 / seen) @ back.abs().square().mT
        posterior = mean.abs().square() + (prior - prior.square() * explained).clamp_min(0)
        power = posterior.sum(1) / taps.sum(1, keepdim=True)
        taps = posterior.sum(-1) / power.sum(-1, keepdim=True).clamp_min(1e-12)
        level = taps.mean(-1, keepdim=True).clamp_min(1e-12)
        taps, power = taps / level, power * level
    return taps, power


def _log(x: Tensor) -> Tensor:
    return 0.25 * torch.log(x + 1e-4)


class AirlamPilots(OnBackbone):
    """See the module's docstring.

    Example:
        >>> model = AirlamPilots(AirlamPilotsConfig()).eval()
        >>> y, combiner = torch.randn(3, 24, 4, dtype=torch.complex64), torch.randn(4, 8, dtype=torch.complex64)
        >>> h, covariance = model(y, combiner, 0.1, port_shape=(2, 4, 1))
        >>> h.shape, covariance.shape
        (torch.Size([3, 24, 8]), torch.Size([3, 24, 8, 8]))
    """

    config_class = AirlamPilotsConfig
    base_model_prefix = "airlam_pilots"
    main_input_name = "y"

    def __init__(self, config: AirlamPilotsConfig):
        super().__init__(config)
        self.backbone = build_backbone(config.backbone)
        width = self.backbone.config.hidden_size
        self.embedding = nn.Sequential(nn.Linear(3 * DIRECTIONS + TAP_FACTS, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, DIRECTIONS + 1)
        use_onednn(self)
        self.post_init()
        freeze_unused(self)
        nn.init.zeros_(self.head.weight)  # starts as the separable model
        nn.init.zeros_(self.head.bias)

    @resolve_inputs
    def forward(
        self,
        y: Tensor,
        combiner: Tensor,
        noise: float | Tensor,
        *,
        port_shape: PortShape | None = None,
        antenna_covariance: Tensor | None = None,
        tone_covariance: Tensor | None = None,
        correction: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the channel given the pilots.

        Args:
            y: ``complex64 [user, subcarrier, pilot]``.
            combiner: ``complex64 [pilot, tx_ant]``, ``y = h combiner^T + n``.
            noise: its variance, one value or ``[user]``, in the units of ``y``.
            port_shape: (polarisations, columns, rows) of ``tx_ant``; at most 8 columns and rows.
            antenna_covariance: of the cell, ``E[h^T h^*] [tx_ant, tx_ant]`` in any unit; None: nothing is known.
            tone_covariance: of the cell, ``E[h h^H] [subcarrier, subcarrier]`` in any unit; None: nothing is known.
            correction: False gives the separable start alone.

        Returns:
            ``h [user, subcarrier, tx_ant]`` and of the rows of its errors ``E[e^H e] [user, subcarrier, tx_ant,
            tx_ant]``.
        """
        ports = combiner.shape[-1]
        port_shape = check_port_shape(ports, port_shape)
        grid = directions(port_shape).to(y.device)
        if antenna_covariance is not None:
            grid = root_of(antenna_covariance).to(grid.dtype) @ grid
        phi = combiner @ grid
        scale, noise = self._scale(y, combiner, noise)
        modes, usual = (x.to(y.device) for x in tap_modes(y.shape[1], tone_covariance))
        taps = modes.mH @ (y / scale)
        level = torch.ones(len(y), 1, device=y.device) * noise
        with torch.no_grad():
            lam, power = separable_powers(taps, phi, level)
            start = lam[..., None] * power[:, None]
        prior = start
        if correction:
            prior = self._corrected(taps, phi, start, lam, level, ports, usual, tone_covariance is not None)
        cross = (grid * prior[:, :, None]) @ phi.mH  # E[h_d y_d^H], [user, tap, tx_ant, pilot]
        seen = self._seen(phi, prior, level).to(torch.complex128)
        side = torch.cat([taps[..., None], cross.mH], -1).to(torch.complex128)
        solved = torch.linalg.solve(seen, side).to(y.dtype)
        mean = (cross @ solved[..., :1])[..., 0]
        share = modes.abs().square()  # of each tap's error that a tone gets: those of taps are uncorrelated
        before = (grid * (share @ prior)[:, :, None]) @ grid.mH
        after = torch.einsum("td,udab->utab", share.to(y.dtype), cross @ solved[..., 1:])
        return scale * (modes @ mean), scale.square()[..., None] * (before - after).conj()

    @staticmethod
    def _seen(phi: Tensor, prior: Tensor, noise: Tensor) -> Tensor:
        """Covariance of the pilots of each tap ``[user, tap, pilot, pilot]``."""
        eye = torch.eye(len(phi), dtype=phi.dtype, device=phi.device)
        return (phi * prior[:, :, None]) @ phi.mH + noise[..., None, None] * eye

    def _scale(self, y: Tensor, combiner: Tensor, noise: float | Tensor) -> tuple[Tensor, Tensor]:
        """Of each user ``[user, 1, 1]``: the root of what the pilots say of its power per antenna, and the noise in
        units of that power ``[user, 1]``."""
        noise = torch.as_tensor(noise, dtype=torch.float32, device=y.device).expand(len(y))
        gain = combiner.abs().square().sum(-1).mean()
        energy = y.abs().square().mean((1, 2))
        power = ((energy - noise).clamp_min(0.02 * energy) / gain).clamp_min(1e-20)
        return power.sqrt()[:, None, None], (noise / power).clamp(1e-6, 1e3)[:, None]

    def _corrected(
        self,
        taps: Tensor,
        phi: Tensor,
        start: Tensor,
        lam: Tensor,
        noise: Tensor,
        ports: int,
        usual: Tensor,
        eigenmodes: bool,
    ) -> Tensor:
        """Powers ``[user, tap, direction]`` after the network."""
        count, size = taps.shape[1], start.shape[-1]
        first = start * (phi.mH @ torch.linalg.solve(self._seen(phi, start, noise), taps[..., None]))[..., 0].abs()
        matched = (taps @ phi.conj()).abs().square() / phi.abs().square().sum(0).clamp_min(1e-9)
        turn = 2 * math.pi * torch.arange(count, device=taps.device) / count
        place = torch.stack([turn.sin(), turn.cos(), turn / (2 * math.pi)], -1).expand(len(taps), -1, -1)
        facts = torch.stack(
            [
                (0.25 * noise.log()).expand(-1, count),
                torch.full_like(lam, len(phi) / ports),
                _log(lam),
                _log(usual).expand_as(lam),
                torch.full_like(lam, float(eigenmodes)),
            ],
            -1,
        )
        grids = [_log(matched), _log(start), _log(first.square())]
        grids = [nn.functional.pad(x, (0, DIRECTIONS - size)) for x in grids]
        embedded = self.embedding(torch.cat([*grids, place, facts], -1)).to(self.backbone.dtype)
        hidden = self.backbone(inputs_embeds=embedded).last_hidden_state
        out = self.head(self.norm(hidden.to(start.dtype)))
        shift = (2 * out[..., :size]).clamp(-7, 7) + out[..., -1:].clamp(-7, 7)
        return (start + 1e-5) * shift.exp()


class PilotPrecoder:
    """Beams from pilots: an :class:`AirlamPilots` and a precoder that gets its channels and their error covariances.

    Args:
        pilots: the network. precoder: any :class:`airlam.interfaces.Precoder` that takes ``error_covariance``.

    Example:
        >>> from airlam import load_precoder
        >>> from airlam.csi import observe_pilots, phase_combiner
        >>> made = PilotPrecoder(AirlamPilots(AirlamPilotsConfig()), load_precoder("rzf"))
        >>> combiner = phase_combiner(4, 8)
        >>> y = observe_pilots(torch.randn(2, 12, 8, dtype=torch.complex64), combiner, 0.1)  # two users
        >>> made.precode(y, combiner, 0.1, 1.0, 0.01, port_shape=(2, 4, 1)).shape  # [subcarrier, tx_ant, user]
        torch.Size([12, 8, 2])
    """

    def __init__(self, pilots: AirlamPilots, precoder: Precoder):
        self.pilots, self.precoder = pilots.eval(), precoder

    @in_inference_mode
    @resolve_inputs
    def precode(
        self,
        y: Tensor,
        combiner: Tensor,
        noise: float | Tensor,
        power: float,
        no: float,
        *,
        port_shape: PortShape | None = None,
        antenna_covariance: Tensor | None = None,
        tone_covariance: Tensor | None = None,
    ) -> Tensor:
        """Beams ``[subcarrier, tx_ant, user]`` for the users whose pilots are ``y``; see :meth:`AirlamPilots.forward`
        and :meth:`airlam.interfaces.Precoder.precode`."""
        check_pilots(y, combiner, noise)
        for given, name, size in (
            (antenna_covariance, "antenna_covariance", combiner.shape[1]),
            (tone_covariance, "tone_covariance", y.shape[1]),
        ):
            if given is not None:
                check_covariance(given, name, size)
        h, covariance = self.pilots(
            y,
            combiner,
            noise,
            port_shape=port_shape,
            antenna_covariance=antenna_covariance,
            tone_covariance=tone_covariance,
        )
        return self.precoder.precode(h.transpose(0, 1), power, no, error_covariance=covariance.transpose(0, 1))


def check_pilots(y: Tensor, combiner: Tensor, noise: float | Tensor) -> None:
    """An error that says what is wrong with pilots."""
    for value, name in ((y, "y"), (combiner, "combiner")):
        if not isinstance(value, Tensor) or not value.is_complex():
            raise TypeError(f"{name} must be a complex torch.Tensor")
        if not all_finite(value):
            raise ValueError(f"{name} contains NaN or infinity")
    if y.dim() != 3 or combiner.dim() != 2 or y.shape[-1] != combiner.shape[0]:
        raise ValueError(
            f"y {tuple(y.shape)} must be [user, subcarrier, pilot], and combiner {tuple(combiner.shape)} "
            "[pilot, tx_ant]"
        )
    if not bool((combiner.abs().square().sum(-1) > 0).all()):
        raise ValueError("combiner has a row of zeros: that pilot hears nothing; leave it out")
    value = torch.as_tensor(noise)
    if not bool((torch.isfinite(value) & (value > 0)).all()):
        raise ValueError(f"noise must be positive and finite (linear, not dB), got {value.flatten()[:3].tolist()}")


def check_covariance(covariance: Tensor, name: str, size: int) -> None:
    """An error unless ``covariance`` is finite, Hermitian, of ``size``, and has power."""
    if not isinstance(covariance, Tensor) or tuple(covariance.shape) != (size, size):
        given = tuple(covariance.shape) if isinstance(covariance, Tensor) else type(covariance).__name__
        raise ValueError(f"{name} is {given}, but must be a tensor {(size, size)}")
    largest = covariance.abs().max()
    if not bool(torch.isfinite(largest)):
        raise ValueError(f"{name} contains NaN or infinity")
    hermitian = bool((covariance - covariance.mH).abs().max() <= 1e-3 * largest)
    if not hermitian or not float(covariance.diagonal().real.min()) >= 0:
        raise ValueError(f"{name} must be Hermitian, with a diagonal that is not negative")
    if not float(largest) > 0:
        raise ValueError(f"{name} is zero; leave it out where nothing is known")


def root_of(covariance: Tensor) -> Tensor:
    """Hermitian root ``complex128`` of a covariance scaled to mean diagonal 1; what is not positive is dropped."""
    wide = covariance.to(torch.complex128)
    values, vectors = torch.linalg.eigh(0.5 * (wide + wide.mH) / wide.diagonal().real.mean().clamp_min(1e-30))
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.mH


AutoConfig.register("airlam-pilots", AirlamPilotsConfig, exist_ok=True)
AutoModel.register(AirlamPilotsConfig, AirlamPilots, exist_ok=True)
