"""The scores of published channel predictors as their own code computes them, to be read beside airlam's.

What differs is the target (noisy there, true here), the mean (ratio of sums or mean of ratios), and what a link weighs
(raw gains there, unit power here). docs/metrics.md gives the differences in numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from airlam.csi import resolve_inputs
from airlam.metrics.nmse import energy, nmse


@dataclass(frozen=True)
class Convention:
    """How one publication scores predictions.

    Attributes:
        name: in recipes and tables; title: in headings.
        target_snr_db: SNR of the noise that is added to the target [dB].
        batch: samples whose noise level, or whose sums, belong together.
        source: the code that was read.
    """

    name: str
    title: str
    target_snr_db: float
    batch: int
    source: str

    @property
    def floor(self) -> float:
        """The NMSE of a perfect prediction where all links are equally strong: noise over noisy target.

        Example:
            >>> round(CONVENTIONS["llm4cp"].floor, 4), round(CONVENTIONS["wifo"].floor, 4)
            (0.0156, 0.0099)
        """
        noise = 10 ** (-self.target_snr_db / 10)
        return noise / (1 + noise)


CONVENTIONS = {
    "llm4cp": Convention("llm4cp", "LLM4CP", 18.0, 64, "metrics.py, data.py, test_tdd_full.py of liuboxun/LLM4CP"),
    "wifo": Convention("wifo", "WiFo", 20.0, 128, "model.py, train.py, dataloader.py of WiFo's inference code"),
}


@resolve_inputs
def noisy_target(
    h: Tensor, snr_db: float, generator: torch.Generator | None = None, *, batch: int | None = None
) -> Tensor:
    """True CSI plus noise whose level is that of all links together, as published codes make their target.

    A link that is 10 dB weaker than the mean has a 10 dB lower SNR. airlam's own noise follows each link's own power
    (:func:`airlam.csi.measure`), and is never added to a target.

    Args:
        h: true CSI with the links' own gains ``complex [link, slot, subcarrier, rx_ant, tx_ant]``.
        snr_db: mean power of the links over that of the noise [dB]; ``inf`` adds nothing.
        generator: source of randomness.
        batch: links that share a noise level; ``None``: all.

    Raises:
        TypeError: ``h`` is not complex.

    Example:
        >>> h = torch.ones(8, 4, 48, 1, 8, dtype=torch.complex64)
        >>> noise = noisy_target(h, 18.0, torch.Generator().manual_seed(0)) - h
        >>> round(float(noise.abs().square().mean()), 3)
        0.016
    """
    _check(h, h)
    noise = torch.randn(h.shape, dtype=h.dtype, device=h.device, generator=generator)
    parts = []
    for own, drawn in zip(h.split(batch or len(h)), noise.split(batch or len(h)), strict=True):
        power = energy(own, tuple(range(own.dim()))) / own.numel()
        parts.append(own + (power * 10 ** (-snr_db / 10)).sqrt().to(own.real.dtype) * drawn)
    return torch.cat(parts)


@resolve_inputs
def nmse_llm4cp(h_hat: Tensor, target: Tensor, *, polarisations: int = 1, batch: int = 64) -> Tensor:
    r"""NMSE as LLM4CP's test computes it for learned models: the mean over batches of ratios of sums.

    :math:`\frac1B\sum_b \sum_{i\in b}\|\hat h_i - t_i\|^2 / \sum_{i\in b}\|t_i\|^2`. Each polarisation (and receive
    antenna) of a link is a sample; a last batch that is not full is left out, unless it is the only one.

    Args:
        h_hat: prediction with the link's own gain ``complex [link, slot, subcarrier, rx_ant, tx_ant]``.
        target: of the same shape; there noisy (:func:`noisy_target`, 18 dB).
        polarisations: of the ``tx_ant`` axis, whose slowest part they are.
        batch: samples of a batch.

    Returns:
        float64 scalar.

    Raises:
        ValueError: shapes that differ, or antennas that the polarisations do not divide. TypeError: real CSI.

    Example:
        >>> h = torch.ones(2, 4, 48, 1, 8, dtype=torch.complex64)
        >>> strong = torch.tensor([10.0, 1.0])[:, None, None, None, None] * h   # powers 100 and 1
        >>> round(float(nmse_llm4cp(strong + 1, strong)), 4)       # (1 + 1) / (100 + 1); ours is (0.01 + 1) / 2
        0.0198
    """
    _check(h_hat, target)
    error, power = _samples(h_hat - target, polarisations), _samples(target, polarisations)
    ratios = [
        energy(e, tuple(range(e.dim()))) / energy(p, tuple(range(p.dim())))
        for e, p in zip(_batches(error, batch), _batches(power, batch), strict=True)
    ]
    return torch.stack(ratios).mean()


@resolve_inputs
def se_llm4cp(
    h_hat: Tensor, target: Tensor, *, polarisations: int = 1, snr_db: float = 10.0, scrambled: bool = True
) -> Tensor:
    r"""Spectral efficiency as LLM4CP's code computes it, bit/s/Hz.

    A matched beam of one user at each slot and subcarrier,
    :math:`\log_2(1 + |\hat h^H t|^2 / (\|\hat h\|^2 \sigma^2))` with :math:`\sigma^2 = \|t\|^2 10^{-snr/10} / N`: a
    perfect prediction has :math:`\log_2(1 + 10 N)` at 10 dB, 7.33 for 16 antennas.

    Its code lays the numbers of a subcarrier out as all real parts, then all imaginary parts, and reads them back as
    pairs (real, imaginary): antennas are paired with antennas. The power stays, the phase does not: a prediction that
    is right but for a common phase, which no beam can feel, loses there.

    Args:
        h_hat: prediction ``complex [link, slot, subcarrier, rx_ant, tx_ant]``.
        target: of the same shape.
        polarisations: of the ``tx_ant`` axis; each is a user's channel of its own there.
        snr_db: of the beam.
        scrambled: pair the numbers as that code does; ``False``: the formula itself.

    Returns:
        float64 scalar, the mean over all samples, slots and subcarriers; 0 where a prediction is zero.

    Raises:
        ValueError: as :func:`nmse_llm4cp`.

    Example:
        >>> h = torch.ones(1, 4, 48, 1, 16, dtype=torch.complex64)
        >>> round(float(se_llm4cp(h, h)), 2)
        7.33
    """
    _check(h_hat, target)
    found, wanted = (_samples(x, polarisations).to(torch.complex128) for x in (h_hat, target))
    if scrambled:
        found, wanted = _scrambled(found), _scrambled(wanted)
    product = (found.conj() * wanted).sum(-1).abs().square()
    power = found.abs().square().sum(-1) * wanted.abs().square().sum(-1)
    share = product / power.clamp_min(torch.finfo(power.dtype).tiny)  # of the power that the beam collects
    return torch.log2(1 + share * found.shape[-1] * 10 ** (snr_db / 10)).mean()


@resolve_inputs
def nmse_wifo(h_hat: Tensor, target: Tensor) -> Tensor:
    r"""NMSE as WiFo's evaluation computes it: the mean over links of ratios, against the target it is given.

    The formula is that of :func:`airlam.metrics.nmse` with ``"per_sample"``. What differs is the target, to which WiFo
    adds noise (:func:`noisy_target`, 20 dB, ``batch=128``), and that it is the last half of the slots.

    Args:
        h_hat: prediction ``complex [link, slot, subcarrier, rx_ant, tx_ant]``, in any scale that ``target`` shares.
        target: of the same shape.

    Returns:
        float64 scalar.

    Raises:
        ValueError: as :func:`nmse_llm4cp`.

    Example:
        >>> h = torch.ones(2, 4, 48, 1, 8, dtype=torch.complex64)
        >>> round(float(nmse_wifo(1.1 * h, h)), 4)
        0.01
    """
    _check(h_hat, target)
    return nmse(h_hat, target, reduction="per_sample")


@resolve_inputs
def published_scores(
    convention: str,
    h_hat: Tensor,
    h: Tensor,
    gain_db: Tensor | None = None,
    *,
    polarisations: int = 1,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """The scores that a publication would give a prediction.

    Args:
        convention: a name of :data:`CONVENTIONS`.
        h_hat: prediction ``complex [link, slot, subcarrier, rx_ant, tx_ant]`` at unit mean power of each link.
        h: truth, of the same shape and scale.
        gain_db: ``[link]``, what was taken from each link to give it unit power; ``None``: nothing.
        polarisations: of the ``tx_ant`` axis.
        generator: of the target's noise; the same seed gives every method the same target.

    Returns:
        ``nmse``, linear; for LLM4CP also ``se`` as coded and ``se_formula`` without the scrambled parts, bit/s/Hz.

    Raises:
        ValueError: an unknown convention, or as :func:`nmse_llm4cp`.

    Example:
        >>> h = torch.randn(64, 4, 8, 1, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
        >>> score = published_scores("wifo", h, h, generator=torch.Generator().manual_seed(1))
        >>> round(score["nmse"], 3)                                             # perfect, and yet not 0
        0.01
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention is {convention!r}, but must be one of {', '.join(CONVENTIONS)}")
    _check(h_hat, h)
    chosen = CONVENTIONS[convention]
    if gain_db is not None:
        # a common factor changes nothing, and gains of -120 dB would lose digits
        scale = (10 ** ((gain_db - gain_db.max()) / 20)).to(h.real.dtype).reshape(-1, 1, 1, 1, 1)
        h_hat, h = scale * h_hat, scale * h
    if convention == "wifo":
        target = noisy_target(h, chosen.target_snr_db, generator, batch=chosen.batch)
        return {"nmse": float(nmse_wifo(h_hat, target))}
    target = noisy_target(h, chosen.target_snr_db, generator)
    return {
        "nmse": float(nmse_llm4cp(h_hat, target, polarisations=polarisations, batch=chosen.batch)),
        "se": float(se_llm4cp(h_hat, target, polarisations=polarisations)),
        "se_formula": float(se_llm4cp(h_hat, target, polarisations=polarisations, scrambled=False)),
    }


def _check(h_hat: Tensor, h: Tensor) -> None:
    if not (h_hat.is_complex() and h.is_complex()):
        raise TypeError(f"CSI must be complex, got {h_hat.dtype} and {h.dtype}")
    if h_hat.shape != h.shape or h.dim() != 5:
        raise ValueError(
            f"h_hat {tuple(h_hat.shape)} and h {tuple(h.shape)} must both be [link, slot, subcarrier, rx_ant, tx_ant] "
            "of one shape"
        )


def _samples(h: Tensor, polarisations: int) -> Tensor:
    """``[link, slot, subcarrier, rx_ant, tx_ant]`` to ``[sample, slot, subcarrier, antenna]``, as LLM4CP's loader."""
    if h.shape[-1] % polarisations:
        raise ValueError(f"{h.shape[-1]} antennas do not divide into {polarisations} polarisations")
    folded = h.unflatten(-1, (polarisations, -1))  # link, slot, subcarrier, rx_ant, polarisation, antenna
    return folded.permute(0, 3, 4, 1, 2, 5).flatten(0, 2)


def _batches(samples: Tensor, batch: int) -> list[Tensor]:
    whole = math.floor(len(samples) / batch) * batch
    return list((samples[:whole] if whole else samples).split(batch))


def _scrambled(h: Tensor) -> Tensor:
    """Real parts of all antennas, then imaginary parts, read back as pairs: ``[..., antenna]`` to the same shape."""
    parts = torch.view_as_real(h).transpose(-1, -2).flatten(-2)
    return torch.view_as_complex(parts.unflatten(-1, (-1, 2)).contiguous())
