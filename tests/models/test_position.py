"""Positions on the backbone: starts at the classic estimate, learns, refuses other sites."""

from __future__ import annotations

import pytest
import torch

from airlam.baselines.positioning import PositionEstimate, SiteCSI
from airlam.models.position import AirlamPosition, AirlamPositionConfig, PositionInputs, position_loss
from airlam.tasks import Positioning


def site(users=32, stations=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(users, stations, 48, 8, dtype=torch.complex64, generator=generator)
    place = 50 * torch.rand(users, 3, generator=generator)
    return SiteCSI(h * (1 + place[:, :1, None, None]), torch.zeros(stations, 4), 1e6, (2, 4, 1), place)


def around(csi, size=10.0):
    covariance = size**2 * torch.tensor([[1.0, 0.3], [0.3, 0.5]]).double()
    return PositionEstimate(torch.full((len(csi), 2), 25.0).double(), covariance.expand(len(csi), 2, 2))


def test_new_weights_give_the_start():
    torch.manual_seed(0)
    csi = site()
    found = AirlamPosition(AirlamPositionConfig(stations=3)).eval().locate(csi, around(csi))
    torch.testing.assert_close(found.mean, around(csi).mean)
    torch.testing.assert_close(found.covariance, around(csi).covariance, rtol=1e-5, atol=1e-5)  # float32 in between


def test_the_loss_is_the_likelihood_of_a_gaussian():
    factor = torch.tensor([[2.0, 0.0], [0.7, 1.5]])
    mean, truth = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0])
    expected = -torch.distributions.MultivariateNormal(mean, scale_tril=factor).log_prob(truth)
    found = position_loss(mean[None], factor[None], truth[None])[0]
    assert found == pytest.approx(float(expected - torch.log(torch.tensor(2 * torch.pi))), rel=1e-5)


@pytest.mark.parametrize("backbone", ["airlam-tiny", None])
def test_training_lowers_the_loss_and_stays_a_density(backbone):
    torch.manual_seed(0)
    csi = site(64)
    inputs, truth = PositionInputs.of(csi, around(csi)), csi.position[:, :2]
    task = Positioning(backbone, {"stations": 3, "beams": 4})
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=1e-3)
    before = float(position_loss(*task.model(*inputs), truth).mean().detach())
    for _ in range(25):
        optimizer.zero_grad()
        position_loss(*task.model(*inputs), truth).mean().backward()
        optimizer.step()
    mean, factor = task.model.eval()(*inputs)
    # 64 users whose level tells x: 0.3 nats are a quarter off the ellipse's area
    assert float(position_loss(mean, factor, truth).mean().detach()) < before - 0.3
    assert bool((factor.diagonal(dim1=1, dim2=2) > 0).all()) and bool((factor[:, 0, 1] == 0).all())


def test_users_do_not_depend_on_each_other():
    torch.manual_seed(0)
    model = AirlamPosition(AirlamPositionConfig(stations=3)).eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    csi = site()
    together, alone = model.locate(csi, around(csi)), model.locate(csi[3:4], around(csi[3:4]))
    torch.testing.assert_close(together.mean[3:4], alone.mean, atol=1e-3, rtol=0)  # metres, float32


def test_other_sites_and_arguments_are_refused():
    model = AirlamPosition(AirlamPositionConfig(stations=3)).eval()
    csi = site(stations=4)
    with pytest.raises(ValueError, match="4 stations, but this network was made for 3"):
        model.locate(csi, around(csi))
    with pytest.raises(ValueError, match="no argument 'width'"):
        Positioning(None, {"width": 3})
