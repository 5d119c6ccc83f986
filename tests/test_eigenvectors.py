"""Eigenvectors of subbands: against a decomposition by hand, and their phases."""

from __future__ import annotations

import pytest
import torch

from airlam.csi import subband_eigenvectors
from airlam.metrics import sgcs


def channel(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def test_they_are_the_right_singular_vectors_of_a_subband():
    h = channel(3, 10, 2, 8)
    v = subband_eigenvectors(h, 4, 2)
    assert v.shape == (3, 3, 8, 2)
    for number, part in enumerate(h.split(4, 1)):  # the last one has two subcarriers
        right = torch.linalg.svd(part.flatten(1, 2)).Vh.mH[..., :2]
        assert (sgcs(v[:, number], right) > 1 - 1e-4).all()
    assert torch.allclose(v.mH @ v, torch.eye(2, dtype=v.dtype).expand(3, 3, 2, 2), atol=1e-5)


def test_one_row_is_its_conjugate_with_its_phase():
    h = channel(5, 12, 1, 8)
    expected = h.conj() / torch.linalg.vector_norm(h, dim=-1, keepdim=True)
    found = subband_eigenvectors(h, 1)[..., 0]
    # but for the phase of the receive antenna's combiner, which is one for the band
    common = (found.conj() * expected[..., 0, :]).sum((1, 2), keepdim=True)
    common = common / common.abs()
    assert torch.allclose(found * common, expected[..., 0, :], atol=1e-4)


def test_zero_channels_give_unit_vectors():
    v = subband_eigenvectors(torch.zeros(2, 8, 1, 4, dtype=torch.complex64), 4)
    assert torch.allclose(torch.linalg.vector_norm(v, dim=-2), torch.ones(2, 2, 1))


@pytest.mark.parametrize(
    ("arguments", "words"), [((0,), "subband is 0"), ((4, 9), "from 1 to 8"), ((4, 0), "layers is 0"), ((2.0,), "2.0")]
)
def test_mistakes(arguments, words):
    with pytest.raises(ValueError, match=words):
        subband_eigenvectors(channel(1, 8, 1, 8), *arguments)
