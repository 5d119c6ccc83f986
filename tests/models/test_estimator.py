"""The estimator: one ray comes back, symmetries, windows, errors."""

import pytest
import torch

from airlam.csi import series_along, series_back
from airlam.metrics import nmse
from airlam.models import AirlamConfig, AirlamEstimator, AirlamModel, pooled_hidden
from airlam.models.doppler import doppler_grid, wiener, wiener_at
from airlam.models.estimator import comb_step, frequencies, windows

SHAPE = (2, 4, 1)


@pytest.fixture(scope="module")
def estimator(tiny_backbone):
    torch.manual_seed(0)
    return AirlamEstimator(AirlamModel(AirlamConfig(num_tokens=24, num_groups=2, backbone=tiny_backbone)))


def one_ray(links=3, slots=2, tones=40, delay=0.06):
    """One ray a link: a phase ramp over tones, one over columns; delays in cycles per tone."""
    generator = torch.Generator().manual_seed(1)
    tau = delay * torch.rand(links, 1, generator=generator)
    angle = 0.4 * torch.rand(links, 1, generator=generator)
    f = torch.exp(-2j * torch.pi * tau * torch.arange(tones))
    a = torch.exp(2j * torch.pi * angle * torch.arange(4)).repeat(1, 2)
    return torch.einsum("lf,la->lfa", f, a)[:, None, :, None].expand(-1, slots, -1, -1, -1).to(torch.complex64)


@pytest.mark.parametrize(
    ("axis", "pattern"),
    [
        ("subcarrier", torch.arange(40) % 4 == 0),
        ("subcarrier", torch.arange(40) % 8 == 3),
        ("subcarrier", torch.ones(40, dtype=torch.bool)),
        ("column", torch.tensor([True, True, False, True])),
        ("slot", torch.tensor([True, False, True, True])),
    ],
)
def test_a_single_ray_is_reconstructed(estimator, axis, pattern):
    """The head starts silent, so the spectrum is the periodogram: a peak at the ray's frequency, as wide as one over
    the number of samples, which of three columns leaves 7 %."""
    h = one_ray(slots=4)
    hidden = torch.where(series_mask(pattern, axis, h), h, torch.full((), float("nan"), dtype=h.dtype))
    assert float(nmse(estimator.estimate(hidden, pattern, axis=axis, port_shape=SHAPE), h)) < 0.1


def series_mask(pattern, axis, h):
    x, _ = series_along(torch.ones_like(h), axis, SHAPE)
    return series_back(x * pattern[:, None, None, None], axis, SHAPE, h.shape[-4:]).real > 0.5


def test_symmetries_and_scales(estimator):
    generator = torch.Generator().manual_seed(2)
    h = one_ray() + 0.1 * torch.randn(3, 2, 40, 1, 8, dtype=torch.complex64, generator=generator)
    pattern = torch.arange(40) % 2 == 0

    def estimate(x):
        return estimator.estimate(x, pattern, axis="subcarrier", port_shape=SHAPE)

    out = estimate(h)
    scale = out.abs().amax()
    # single precision; eigenvectors and weights carry rounding of the batched linear algebra
    assert (estimate(h[1:2]) - out[1:2]).abs().amax() < 1e-3 * scale
    assert (estimate(h * 1j) - out * 1j).abs().amax() < 1e-3 * scale
    for factor in (1e-18, 1e18):
        assert (estimate(h * factor) / factor - out).abs().amax() < 1e-3 * scale
    wide = estimate(h.to(torch.complex128))
    assert wide.dtype == torch.complex128 and torch.equal(estimate(h[0])[None], estimate(h[:1]))
    assert estimate(torch.zeros_like(h)).abs().amax() == 0 and estimate(h[:0]).shape == h[:0].shape


def test_links_may_have_patterns_of_their_own(estimator):
    h = one_ray()
    masks = torch.stack([torch.arange(40) % 2 == 0, torch.arange(40) % 4 == 1, torch.arange(40) % 2 == 0])
    out = estimator.estimate(h, masks, axis="subcarrier", port_shape=SHAPE)
    alone = estimator.estimate(h[1], masks[1], axis="subcarrier", port_shape=SHAPE)
    assert torch.allclose(out[1], alone, atol=1e-3)


def test_a_neighbouring_band_above_and_below(estimator):
    """One end of the axis measured: the other is forecast, in either direction alike."""
    h = one_ray()
    first = torch.arange(40) < 20
    up = estimator.estimate(h, first, axis="subcarrier", port_shape=SHAPE)
    down = estimator.estimate(h.flip(2).conj(), first.flip(0), axis="subcarrier", port_shape=SHAPE).flip(2).conj()
    assert float(nmse(up, h)) < 0.1
    assert torch.allclose(up, down, atol=1e-3)


def test_windows():
    comb = torch.arange(48) % 4 == 1
    assert comb_step(comb) == 4
    (only,) = windows(comb, 32)  # 24 samples two tones apart
    assert only.lattice.tolist() == list(range(1, 48, 2))
    (only,) = windows(torch.arange(48) >= 24, 32)  # as many hidden samples as fit
    assert only.lattice.tolist() == list(range(16, 48))
    several = windows(torch.ones(100, dtype=torch.bool), 32)
    assert len(several) > 3 and all(len(w.lattice) == 32 for w in several)
    assert bool((sum(w.weight for w in several) > 0).all())
    assert len(windows(torch.arange(100) == 7, 32)) == 1


def test_delays_are_taken_as_not_negative():
    model = AirlamModel(AirlamConfig(num_tokens=4, num_groups=0))
    nu = frequencies(model, 2, 4, True)
    assert float(nu.max()) <= 0.05 / 4 and float(nu.min()) > -0.95 / 4 - 1e-9
    # what the comb cannot tell apart stays what it is
    turns = (nu - doppler_grid(129) / 2) * 4
    assert torch.allclose(turns, turns.round(), atol=1e-9)


def test_wiener_at_is_wiener_on_whole_samples():
    generator = torch.Generator().manual_seed(3)
    spectrum = torch.rand(5, 129, generator=generator, dtype=torch.float64)
    spectrum = spectrum / spectrum.sum(-1, keepdim=True)
    noise = torch.full((5,), 0.1, dtype=torch.float64)
    targets = torch.arange(6, 14)
    a, va = wiener(spectrum, noise, 8, targets)
    b, vb = wiener_at(spectrum, noise, doppler_grid(129), torch.arange(8), targets)
    assert torch.allclose(a, b, atol=1e-10) and torch.allclose(va, vb, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"axis": "tone"}, ValueError, "axis must be slot, subcarrier or column"),
        ({"observed": torch.ones(7, dtype=torch.bool)}, ValueError, "but must be bool of shape"),
        ({"observed": torch.ones(40)}, ValueError, "but must be bool"),
        ({"observed": torch.zeros(40, dtype=torch.bool)}, ValueError, "without any measured subcarrier"),
        ({"port_shape": (2, 3, 1)}, ValueError, "port_shape"),
        ({"h_measured": torch.zeros(1, 2, 40, 1, 8)}, TypeError, "must be complex"),
        ({"h_measured": torch.full((1, 2, 40, 1, 8), float("nan"), dtype=torch.complex64)}, ValueError, "NaN"),
    ],
)
def test_errors(estimator, change, error, message):
    request = {"h_measured": one_ray(), "observed": torch.arange(40) < 20, "axis": "subcarrier", "port_shape": SHAPE}
    with pytest.raises(error, match=message):
        estimator.estimate(**(request | change))


def test_pooled_hidden_ignores_phase_and_scale(estimator):
    # with noise: the eigenvectors of directions without any power are arbitrary
    h = one_ray(slots=8)
    h = h + 0.1 * torch.randn(h.shape, dtype=h.dtype, generator=torch.Generator().manual_seed(0))
    a, b = (pooled_hidden(estimator.model, x, SHAPE) for x in (h, 3j * h))
    assert a.shape == (3, 64) and torch.allclose(a, b, atol=1e-3)
