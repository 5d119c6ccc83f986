"""Impairments of the measured history, drawn for each link."""

import pytest
import torch
from scipy import stats

from airlam.data.batches import draw_impairment, measured
from airlam.data.recipe import DatasetRecipe
from airlam.errors import RecipeError

KEYS = [(0, i) for i in range(200)]
H = torch.ones(200, 6, 8, 1, 1, dtype=torch.complex64)


def phase_errors(spec):
    out = measured(H, 4, 2, 100.0, KEYS, spec, slot_duration=1e-3, subcarrier_spacing=180e3)
    assert torch.equal(out["h_future"], H[:, 4:]) and torch.equal(out["h_past_true"], H[:, :4])  # truth stays true
    return torch.angle(out["h_past"]).mean((2, 3, 4))


def test_the_share_of_links_and_the_spread_are_as_asked_for():
    errors = phase_errors({"probability": 0.25, "phase_std": 0.1})
    hit = errors.abs().amax(1) > 1e-3
    assert 0.15 < float(hit.float().mean()) < 0.35  # 3.3 standard deviations of a share of 200
    assert float(errors[hit].std()) == pytest.approx(0.1, rel=0.15)


def test_a_range_is_drawn_uniformly_in_the_logarithm():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([draw_impairment({"phase_std": [0.01, 1.0]}, generator).phase_std for _ in range(400)])
    assert drawn.min() >= 0.01 and drawn.max() <= 1.0
    assert float(drawn.log10().mean()) == pytest.approx(-1.0, abs=0.1)  # the standard error is 0.03


@pytest.mark.parametrize(
    "name, high", [("phase_std", 0.3), ("cfo_hz", 400.0), ("timing_std_s", 2e-8), ("missing", 0.5)]
)
def test_a_range_that_starts_at_0_is_drawn_uniformly(name, high):
    generator = torch.Generator().manual_seed(0)
    drawn = [getattr(draw_impairment({name: [0, high]}, generator), name) for _ in range(400)]
    assert 0 < min(drawn) and max(drawn) <= high
    # Kolmogorov-Smirnov distance from the uniform distribution; 1.95 / sqrt(n) is exceeded once in a thousand.
    assert stats.kstest(drawn, stats.uniform(0, high).cdf).statistic < 1.95 / 400**0.5


def test_draws_of_ranges_above_0_and_of_constants_stay_what_they_were():
    generator = torch.Generator().manual_seed(7)
    spec = {"phase_std": [0.003, 0.3], "missing": 0.1, "timing_std_s": 0, "cfo_hz": [50, 200]}
    found = [draw_impairment(spec, generator) for _ in range(50)]
    generator = torch.Generator().manual_seed(7)

    def old(low, high):
        return low * (high / low) ** float(torch.rand((), generator=generator))

    for impairment in found:
        torch.rand((), generator=generator)  # whether the link suffers
        assert impairment.phase_std == old(0.003, 0.3) and impairment.missing == old(0.1, 0.1)
        assert impairment.timing_std_s == 0 and impairment.cfo_hz == old(50, 200)


def test_without_impairments_the_noise_is_what_it_was():
    plain, none = (measured(H, 4, 2, 20.0, KEYS, spec)["h_past"] for spec in (None, {}))
    assert torch.equal(plain, none)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"probability": [0, 1]}, "impairments.probability is"),
        ({"missing": [0, 2]}, r"impairments.missing\[1\] is 2"),
        ({"fase_std": 0.1}, "did you mean 'phase_std'"),
        ({"phase_std": -1}, "impairments.phase_std is -1"),
    ],
)
def test_typos_and_bounds(spec, message):
    with pytest.raises(RecipeError, match=message):
        DatasetRecipe(channel="uma_nlos", impairments=spec)
