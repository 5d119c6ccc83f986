"""The rough noise level of histories that are too short to fill their own eigenbasis."""

import pytest
import torch

from airlam import load_predictor
from airlam.models.tokens import filled_bins


@pytest.mark.parametrize(("rx_ant", "ports", "polarisations"), [(1, 1, 1), (2, 1, 1), (1, 4, 2), (1, 32, 2)])
def test_filled_bins_are_those_with_energy(rx_ant, ports, polarisations):
    from airlam.baselines.eigen_ar import Eigenbasis

    g = torch.Generator().manual_seed(0)
    h = torch.randn(1, 6, 40, rx_ant, ports, dtype=torch.complex64, generator=g)
    energy = Eigenbasis.of(h, polarisations).forward(h).abs().square().sum(-1)
    assert int((energy > 1e-6 * energy.max()).sum()) == filled_bins(h, polarisations)


@pytest.mark.parametrize(("name", "within"), [("airlam-tiny-v1", 3), ("airlam-tiny", 4)])
def test_rough_noise_of_one_antenna_has_the_size_of_the_noise(name, within):
    """16 slots fill 16 of 52 modes, 32 forward and backward; the other modes are empty and once made the noise level
    zero."""
    g = torch.Generator().manual_seed(1)
    h = torch.randn(8, 1, 52, 1, 1, dtype=torch.complex64, generator=g).expand(-1, 16, -1, -1, -1)
    noisy = h + 0.1 * torch.randn(h.shape, dtype=h.dtype, generator=g)
    tokens = load_predictor(name).model.tokenize(noisy, 4, 1)
    variance = float((tokens.noise * tokens.per_token(tokens.scale)[..., 0].square())[:, 0].mean())
    assert 0.01 / within < variance < 0.01 * within  # a rough level; the network corrects it
