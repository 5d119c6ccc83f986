"""Small channels with a known structure, made in a millisecond: what the contracts judge methods on."""

from __future__ import annotations

import torch
from torch import Tensor

PORTS = (2, 2, 2)
CONTEXT = {"speed": 10.0, "slot_duration": 0.5e-3, "carrier_frequency": 2.4e9}


def history(*lead: int, slots: int = 16, rx: int = 1, seed: int = 0, dtype: torch.dtype = torch.complex64) -> Tensor:
    """Six rays for each link, over 12 subcarriers and 8 ports, with white noise 20 dB below the channel.

    Args:
        lead: leading axes, one link in each entry. rx: receive antennas.

    Returns:
        ``complex [*lead, slot, 12, rx, 8]``; the ports fold as :data:`PORTS`.

    Example:
        >>> history(3, slots=5).shape
        torch.Size([3, 5, 12, 1, 8])
    """
    g = torch.Generator().manual_seed(seed)
    t, f, a = torch.arange(slots), torch.arange(12), torch.arange(8 * rx)

    def phases(grid: Tensor) -> Tensor:
        slope = 2 * torch.rand(*lead, 6, 1, generator=g, dtype=torch.float64) - 1
        return torch.exp(1j * slope * grid)

    c = torch.randn(*lead, 6, generator=g, dtype=torch.complex128)
    h = torch.einsum("...r,...rt,...rf,...ra->...tfa", c, phases(t), phases(f), phases(a))
    h = h / h.abs().square().mean((-3, -2, -1), keepdim=True).sqrt()
    h = h + 0.1 * torch.randn(h.shape, generator=g, dtype=torch.complex128)
    return h.unflatten(-1, (rx, 8)).to(dtype)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-3) -> None:
    """Assert that ``a`` equals ``b`` up to ``tolerance`` times the largest entry of ``b``.

    1e-3: single precision through least-squares fits whose systems have condition numbers of 1e3.
    """
    assert a.shape == b.shape
    assert float((a - b).abs().max()) <= tolerance * float(b.abs().max())
