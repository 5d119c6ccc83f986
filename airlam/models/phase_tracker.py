"""Phase noise and timing jitter: offsets that all coefficients of a slot share are estimated and removed.

A real receiver adds to every slot a phase offset (oscillator noise) and a phase slope over subcarriers (timing). All
other changes of a channel differ from ray to ray, so the offsets can be measured in the correlations of neighbouring
slots, summed over all antennas and tones. Motion that all rays share remains ambiguous: which part of an observed
increment is an offset depends on how fast and how rich the channel is. A small network learns this. It mixes linear
least-squares filters, so that a small offset is corrected as exactly as a large one, and nothing changes where there
are no offsets.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

LAGS = 6  # slots compared with each slot: the LAGS before it
BANDS = 4  # of the band, whose phases give the slope
MIXTURE = 16  # linear filters
NUM_FACTS = 10  # see PhaseTracker.observe


class Increments(NamedTuple):
    """``phase [link, 2, lag, slot]``: increment [rad] of the common phase, and of the slope at the band's edge, from
    slot ``t - lag`` to ``t``, less its mean over the slots; ``facts [link, 2, fact]`` about them."""

    phase: Tensor
    facts: Tensor


def least_squares(slots: int, history: int, lags: int, smooth: int) -> Tensor:
    """Offsets from their increments ``[slot, lag * slot]``, by ridge regression over the last ``history`` slots.

    Of each lag's increments the ``smooth`` slowest cosines over slots count as the channel's own motion.
    """
    source = [(lag, t) for lag in range(1, lags + 1) for t in range(slots - history + lag, slots)]
    design = torch.zeros(len(source), slots)
    motion = torch.zeros(len(source), lags, smooth)
    for row, (lag, t) in enumerate(source):
        design[row, t], design[row, t - lag] = 1.0, -1.0
        position = (t - (slots - history + lag) + 0.5) / (history - lag)
        motion[row, lag - 1] = torch.cos(math.pi * position * torch.arange(smooth))
    basis = torch.linalg.qr(motion.flatten(1)).Q
    rest = design - basis @ (basis.mT @ design)
    filters = torch.linalg.solve(rest.mT @ design + 0.05 * torch.eye(slots), rest.mT)
    out = torch.zeros(slots, LAGS, slots)
    for row, (lag, t) in enumerate(source):
        out[:, lag - 1, t] = filters[:, row]
    return out.flatten(1)


@functools.lru_cache(maxsize=8)
def start_filters(slots: int, dtype: torch.dtype) -> Tensor:
    """The mixture's linear filters before training, ``[filter, slot, lag * slot]``. Do not write to it.

    Cached, and always made on the CPU: a model on the meta device would take 0.2 s to make them of no values.
    """
    shapes = [
        (history, lags, smooth) for history in (slots, slots // 2) for lags in (1, LAGS) for smooth in (1, 3, 6, 10)
    ]
    smallest = LAGS + 2
    with torch.inference_mode(False), torch.device("cpu"):
        filters = [
            least_squares(slots, max(h, min(smallest, slots)), min(n, slots - 1), min(s, max(1, h - n)))
            for h, n, s in shapes
        ]
        return torch.stack(filters).to(dtype)


def centres(parts: int, device: torch.device | str = "cpu") -> Tensor:
    """Centres of equal parts of the band, on a scale of [-1, 1]: ``float32 [parts]``."""
    return (torch.arange(parts, device=device, dtype=torch.float32) - (parts - 1) / 2) * (2 / parts)


@functools.lru_cache(maxsize=32)
def layout(slots: int, bands: int, device: torch.device) -> tuple[Tensor, ...]:
    """What :meth:`PhaseTracker.observe` needs for each shape. Do not write to it.

    Returns:
        Slots and earlier slots by lag ``[lag, slot]``, whether there is an earlier one, the bands' centres on [-1, 1],
        and which kind of offset stands where.
    """
    with torch.inference_mode(False):  # cached: must also serve training
        lag = torch.arange(1, LAGS + 1, device=device)[:, None]
        now = torch.arange(slots, device=device).expand(LAGS, slots)
        centre = centres(bands, device)
        kind = torch.tensor([[1.0, 0.0], [1.0, 1.0]], device=device)
        return now, (now - lag).clamp_min(0), (now >= lag).float(), centre[:, None, None], kind


class PhaseTracker(nn.Module):
    """Estimates and removes each slot's common phase and phase slope.

    Args:
        slots: longest history.
        width: of the network that weighs the filters.

    Example:
        >>> h = torch.randn(2, 16, 48, 1, 32, dtype=torch.complex64)
        >>> PhaseTracker(32)(h).shape
        torch.Size([2, 16, 48, 1, 32])
    """

    def __init__(self, slots: int, width: int = 64):
        super().__init__()
        self.slots = slots
        made = start_filters(slots, torch.get_default_dtype())
        self.filters = nn.Parameter(made.to(torch.get_default_device(), copy=True))
        self.weigh = nn.Sequential(
            nn.Linear(NUM_FACTS, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, MIXTURE)
        )

    def reset_gates(self) -> None:
        """Small weights for all filters: the state from which training starts."""
        nn.init.constant_(self.weigh[-1].bias, -3.0)  # type: ignore[arg-type]

    @staticmethod
    def covariance(h: Tensor) -> Tensor:
        """``h [link, slot, subcarrier, rx_ant, tx_ant]`` -> ``[link, band, slot, slot]``, summed over each band's tones
        and all antennas."""
        links, slots, tones = h.shape[:3]
        bands = min(BANDS, tones)
        x = h[:, :, : tones // bands * bands].reshape(links, slots, bands, -1).transpose(1, 2)
        return x @ x.mH

    def observe(self, covariance: Tensor, observed: Tensor | None = None) -> Increments:
        """The increments of the offsets, from which they are estimated.

        Args:
            covariance: see :meth:`covariance`.
            observed: ``bool [link, slot]``, False where a slot was not measured.
        """
        links, bands, slots, _ = covariance.shape
        now, earlier, there, centre, kind = layout(slots, bands, covariance.device)
        valid = there[None]
        if observed is not None:
            valid = valid * (observed[:, None, :] & observed[:, earlier])
        # c[k, t] = sum h_t conj(h_(t-k)), [link, band, lag, slot]
        c = covariance[:, :, now, earlier] * valid[:, None]
        mean = c.sum(-1, keepdim=True)
        power = covariance.diagonal(dim1=-2, dim2=-1).real.clamp_min(0).sqrt()
        power = (power[..., None, :] * power[:, :, earlier] * valid[:, None]).sum((1, 3))
        coherence = mean.abs().sum((1, 3)) / power.clamp_min(1e-20)  # [link, lag]
        c = c * torch.sgn(mean).conj()  # the channel's mean motion at this lag
        common = c.sum(1)
        turned = (c * torch.sgn(common).conj()[:, None]).angle()
        weight = c.abs() * centre
        slope = (weight * turned).sum(1) / (weight * centre).sum(1).clamp_min(1e-20)
        phase = torch.stack([common.angle(), slope], 1) * valid[:, None]
        # root mean squares of the increments at lags 1, 2, 4, and of the change of the first from slot to slot
        pairs = valid[:, 0, 1:] * valid[:, 0, :-1]
        sway = phase[:, :, 0].diff() * pairs[:, None]
        squares = torch.cat([phase.square().sum(-1)[..., [0, 1, 3]], sway.square().sum(-1, keepdim=True)], -1)
        number = torch.cat([valid.sum(-1)[:, [0, 1, 3]], pairs.sum(-1, keepdim=True)], -1).clamp_min(1)
        level = 0.25 * torch.log(squares / number[:, None] + 1e-8)
        spread = 0.25 * torch.log((1.0001 - coherence[:, [0, 1, 3, 5]]).clamp_min(1e-4))
        about = kind * level.new_tensor([slots / self.slots, 1.0])
        facts = torch.cat([level, spread[:, None].expand(-1, 2, -1), about.expand(links, 2, 2)], -1)
        return Increments(phase, facts)

    def offsets(self, increments: Increments) -> Tensor:
        """Estimated phase, and slope at the band's edge, ``[link, 2, slot]`` [rad]."""
        slots = increments.phase.shape[-1]
        x = nn.functional.pad(increments.phase, (self.slots - slots, 0)).flatten(2)
        each = (x @ self.filters.flatten(0, 1).mT).unflatten(-1, (MIXTURE, self.slots))
        weights = torch.sigmoid(self.weigh(increments.facts))
        return (weights[..., None, :] @ each)[..., 0, self.slots - slots :]

    def forward(self, h: Tensor, observed: Tensor | None = None) -> Tensor:
        """``h`` without the estimated offsets, same shape."""
        return rotate(h, -self.offsets(self.observe(self.covariance(h), observed)))


def rotate(h: Tensor, offsets: Tensor) -> Tensor:
    """Turn each slot of ``h [link, slot, subcarrier, rx_ant, tx_ant]`` by ``offsets [link, 2, slot]`` [rad]: a phase,
    and a slope over subcarriers given at the band's edge."""
    tones = h.shape[2]
    position = centres(tones, h.device).to(offsets.dtype)
    angle = offsets[:, 0, :, None] + position * offsets[:, 1, :, None]
    return h * torch.polar(torch.ones_like(angle), angle)[..., None, None]
