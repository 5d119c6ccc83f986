"""Several bases for one link: predictions from different bases have different errors, and their mean has a smaller one.

Each view is a basis with tokens, spectra and filters of its own, from the same measured slots. The model treats
coefficients one by one; the error of this depends on the basis, because each basis distributes the rays differently
over coefficients.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from airlam.baselines.eigen_ar import Eigenbasis

# of the views that are used, from the first on; tuned on UMa and UMi NLOS at 20 dB
WEIGHTS = {1: (1.0,), 2: (0.6, 0.4), 3: (0.5, 0.3, 0.2)}
RECENT = 0.375  # time constant of the second view, relative to the history


def view_basis(
    view: int, h: Tensor, polarisations: int, observed: Tensor | None = None, *, forward_backward: bool = False
) -> Eigenbasis:
    """The basis of a view of histories ``h [link, slot, subcarrier, rx_ant, tx_ant]``.

    Args:
        view: 0: eigenvectors of the covariances of all slots. 1: of the same with weights that fade into the past.
            2: as 0 over ports, delays (a DFT) over subcarriers, from the weakest to the strongest.
        polarisations, observed, forward_backward: see :meth:`airlam.baselines.eigen_ar.Eigenbasis.of`.

    Example:
        >>> h = torch.randn(2, 16, 12, 1, 8, dtype=torch.complex64)
        >>> view_basis(2, h, 2).frequency.shape
        torch.Size([2, 12, 12])
    """
    if view == 1:
        age = torch.arange(h.shape[1] - 1, -1, -1, device=h.device, dtype=h.real.dtype)
        h = h * torch.exp(-age / (RECENT * h.shape[1]))[:, None, None, None]
    basis = Eigenbasis.of(h, polarisations, observed, forward_backward=forward_backward)
    if view != 2:
        return basis
    modes = delays(h.shape[2], h.device)
    if observed is not None:
        h = h * observed[:, :, None, None, None]
    power = torch.view_as_real(modes.mH @ h.transpose(1, 2).flatten(2)).square().sum((-2, -1))
    return basis._replace(frequency=modes[:, power.argsort(-1)].transpose(0, 1).contiguous())


@functools.lru_cache(maxsize=8)
def delays(subcarriers: int, device: torch.device) -> Tensor:
    """Unitary DFT ``complex64 [subcarrier, delay]``. Do not write to it."""
    with torch.inference_mode(False):  # cached: must also serve training
        index = torch.arange(subcarriers, dtype=torch.float64, device=device)
        angle = 2 * math.pi * (index[:, None] * index / subcarriers).frac()
        return (torch.polar(torch.ones_like(angle), angle) / math.sqrt(subcarriers)).to(torch.complex64)
