"""AR in the link's own eigenbasis."""

import pytest
import torch

from airlam.baselines.eigen_ar import EigenARPredictor, Eigenbasis, class_ar, place, strongest


def noise(*shape, seed=0, dtype=torch.complex128):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def test_basis_is_unitary():
    h = noise(2, 8, 6, 2, 8)
    basis = Eigenbasis.of(h, 2)
    bins = basis.forward(h)
    assert bins.shape == (2, 6 * 2 * 8, 8)
    assert torch.allclose(basis.inverse(bins, 2), h)
    assert torch.allclose(bins.abs().square().sum(), h.abs().square().sum())


def test_a_rank_one_link_is_one_coefficient():
    """One ray with off-grid delay and angle: all its energy in one series (a DFT would spread it)."""
    t, f, a = (torch.arange(n, dtype=torch.float64) for n in (8, 12, 6))
    h = torch.einsum("t,f,a->tfa", torch.exp(0.3j * t), torch.exp(-1.234j * f), torch.exp(0.777j * a))[
        None, :, :, None, :
    ].to(torch.complex128)
    bins = Eigenbasis.of(h, 1).forward(h)
    energy = bins.abs().square().sum((0, 2))
    assert energy.max() / energy.sum() == pytest.approx(1.0, abs=1e-12)


def test_exponentials_are_predicted_exactly_without_noise():
    t = torch.arange(20, dtype=torch.float64)
    # three tones shared by 64 series with random weights
    tones = torch.exp(1j * torch.tensor([[0.1], [0.5], [-0.4]], dtype=torch.float64) * t)
    series = torch.einsum("bk,kt->bt", noise(64, 3), tones)[None]
    out = class_ar(series[..., :16], 4, order=8, ridge=1e-14, num_classes=1, shrinkage=float("inf"))
    assert torch.allclose(out, series[..., 16:], atol=1e-4)  # ridge of 1e-14 on an ill-conditioned Gram matrix


def test_per_series_filters_equal_the_direct_formula():
    """Matrix inversion lemma against (D^H D + A)^-1 D^H (t - D w) solved directly."""
    x = noise(1, 40, 10)
    order, shrinkage = 6, 2.0
    window = x.unfold(-1, order + 1, 1)[0]
    lagged, target = window[..., :order], window[..., order:]
    gram = torch.einsum("bei,bej->ij", lagged.conj(), lagged)
    gram = gram + 1e-3 * gram.diagonal().real.mean() * torch.eye(order)
    w = torch.linalg.solve(gram, torch.einsum("bei,beo->io", lagged.conj(), target))
    own = lagged.mH @ lagged + shrinkage * gram / 40
    w_b = w + torch.linalg.solve(own, lagged.mH @ (target - lagged @ w))
    expected = (x[0, :, -order:] * w_b[..., 0]).sum(-1)
    out = class_ar(x, 1, order=order, ridge=1e-3, num_classes=1, shrinkage=shrinkage)[0, :, 0]
    free = expected.abs() < 1.5 * x[0].abs().amax(-1)  # the others meet the bound on growth
    assert free.sum() > 20
    assert torch.allclose(out[free], expected[free])


def test_unstable_filters_stay_bounded():
    t = torch.arange(16, dtype=torch.float64)
    growing = torch.exp(0.5 * t)[None, None].expand(1, 40, -1).to(torch.complex128)
    out = class_ar(growing, 50, order=4, ridge=0.0, num_classes=1, shrinkage=3.0)
    assert out.abs().max() <= 1.5 * growing.abs().max() * (1 + 1e-9)


def test_strongest_and_place_are_inverse():
    series = noise(2, 10, 4)
    kept, index = strongest(series, 10)
    assert (kept.abs().square().sum(-1).diff(dim=-1) <= 0).all()
    assert torch.equal(place(kept, index, 10), series)


def test_bad_arguments():
    with pytest.raises(ValueError, match="at least 1"):
        EigenARPredictor(order=0)
    with pytest.raises(ValueError, match="negative"):
        EigenARPredictor(ridge=-1.0)


def test_forward_backward_covariances_are_those_of_twice_the_snapshots():
    """The history, and the same seen from the other end, conjugated: their basis is the averaged one."""
    g = torch.Generator().manual_seed(3)
    h = torch.randn(2, 5, 6, 1, 8, dtype=torch.complex64, generator=g)
    averaged = Eigenbasis.of(h, 2, forward_backward=True)
    for axis, basis in (("frequency", averaged.frequency), ("port", averaged.port)):
        other = h.flip(2) if axis == "frequency" else h.unflatten(-1, (2, 4)).flip(-1).flatten(-2)
        expected = getattr(Eigenbasis.of(torch.cat([h, other.conj()], 1), 2), axis)
        # the same modes, each up to a phase
        likeness = (basis.conj() * expected).sum(-2).abs()
        torch.testing.assert_close(likeness, torch.ones_like(likeness), rtol=0, atol=1e-3)
