"""Views: unitary bases, and a mean of predictions that errs less than the best of them."""

import pytest
import torch

from airlam.channels import load_channel
from airlam.csi import measure
from airlam.loading import load_predictor
from airlam.metrics import nmse
from airlam.models import AirlamConfig, AirlamModel
from airlam.models.views import WEIGHTS, view_basis


@pytest.mark.parametrize("view", range(3))
@pytest.mark.parametrize("lost", [False, True])
def test_every_view_is_a_unitary_basis(view, lost):
    h = torch.randn(2, 10, 12, 1, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    observed = None
    if lost:
        observed = torch.ones(2, 10, dtype=torch.bool)
        observed[:, 4] = False
    basis = view_basis(view, h, 2, observed)
    bins = basis.forward(h)
    assert torch.allclose(basis.inverse(bins, 1), h, atol=1e-4)  # eigenvectors in single precision
    power = torch.linalg.vector_norm(bins.unflatten(1, (12, -1)), dim=(2, 3))
    if not lost:  # modes of frequency run from the weakest to the strongest, but for the view that weighs slots
        assert view == 1 or bool((power.diff(dim=1) > -1e-3).all())


def test_weights_are_means():
    for views, weights in WEIGHTS.items():
        assert len(weights) == views and sum(weights) == pytest.approx(1.0)


def test_three_views_are_better_than_one():
    batch = load_channel({"scenario": "umi", "state": "nlos", "speed_kmh": 60}).sample(24, 20, seed=9)
    past = measure(batch.h[:, :16], 20.0, torch.Generator().manual_seed(0))
    errors = []
    for views in (1, 2, 3):
        predictor = load_predictor("airlam-tiny", views=views)
        errors.append(float(nmse(predictor.predict(past, 4, port_shape=batch.port_shape), batch.h[:, 16:])))
        if views == 3:
            future, variance = predictor.predict_with_variance(past, 4, port_shape=batch.port_shape)
            assert torch.allclose(future, predictor.predict(past, 4, port_shape=batch.port_shape), atol=1e-5)
            assert bool((variance > 0).all())
    assert errors[2] < errors[1] < errors[0]


def test_the_number_of_views_is_checked():
    with pytest.raises(ValueError, match="views must be at most 3"):
        AirlamConfig(views=4)
    with pytest.raises(ValueError, match="views must be one of 1, 2, 3, got 0"):
        load_predictor("airlam-tiny", views=0)


def test_a_checkpoint_may_bring_its_own_number():
    torch.manual_seed(0)
    h = torch.randn(1, 8, 6, 1, 4, dtype=torch.complex64)
    model = AirlamModel(AirlamConfig(num_tokens=8, num_groups=0, views=2)).eval()
    with torch.no_grad():
        assert torch.equal(model(h, 2), model(h, 2, views=2)) and not torch.equal(model(h, 2), model(h, 2, views=1))
