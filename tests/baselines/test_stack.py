"""The least-squares stack of predictors."""

import pytest
import torch

from airlam.baselines import ARPredictor, HoldPredictor, MeanPredictor, StackPredictor, WienerPredictor, fit_stack
from airlam.metrics import nmse


def rays(seed: int, links: int = 16) -> torch.Tensor:
    """Six moving rays a link, 12 tones, 8 ports, with noise 20 dB down."""
    g = torch.Generator().manual_seed(seed)
    doppler = 0.1 * torch.rand(links, 6, generator=g) - 0.05
    gain = torch.randn(links, 6, 12, 8, dtype=torch.complex64, generator=g)
    turn = torch.polar(torch.ones(()), 6.2832 * doppler[:, :, None] * torch.arange(20.0))
    h = torch.einsum("lrt,lrfa->ltfa", turn, gain)[:, :, :, None]
    return h + 0.25 * torch.randn(h.shape, dtype=h.dtype, generator=g)


def members() -> dict:
    return {"hold": HoldPredictor(), "wiener": WienerPredictor(), "ar": ARPredictor(num_bins=64)}


def test_known_weights_are_found_again():
    h = rays(0)
    found = members()
    truth = torch.tensor([[0.5 + 0.2j, -0.3j, 0.4], [0.1, 0.8, 0.2j]], dtype=torch.complex128)
    future = StackPredictor(list(found.values()), truth).predict(h[:, :16], 2)
    stack, settings = fit_stack(found, h[:, :16], future, torch.arange(16) // 4)
    torch.testing.assert_close(stack.weights, truth, atol=1e-3, rtol=1e-3)  # single-precision predictions, ridge 1e-5
    assert settings["ridge"] == 1e-5 and set(settings) == {"ridge", *found}


def test_it_is_at_least_as_good_as_its_best_member_on_other_links():
    fit, test = rays(1, 48), rays(2, 48)
    stack, _ = fit_stack(members(), fit[:, :16], fit[:, 16:], torch.arange(48) // 4)
    alone = [float(nmse(m.predict(test[:, :16], 4), test[:, 16:])) for m in members().values()]
    assert float(nmse(stack.predict(test[:, :16], 4), test[:, 16:])) <= min(alone)


def test_members_of_no_use_leave_the_best_one():
    """A static channel with noise: everything but the mean errs more, and in ways that the mean's error explains."""
    g = torch.Generator().manual_seed(3)
    h = torch.randn(8, 1, 4, 1, 2, dtype=torch.complex64, generator=g).expand(-1, 20, -1, -1, -1)
    noisy = h + 0.5 * torch.randn(h.shape, dtype=h.dtype, generator=g)
    found = {"mean": MeanPredictor(), "hold": HoldPredictor()}
    stack, settings = fit_stack(found, noisy[:, :16], h[:, 16:], torch.arange(8) // 2)
    assert settings["mean"] > 0.8 > 0.2 > settings["hold"]
    assert stack.predict(noisy[:, :16], 4).shape == (8, 4, 4, 1, 2)


def test_one_drop_alone_still_gives_weights():
    h = rays(4, 4)
    stack, settings = fit_stack(members(), h[:, :16], h[:, 16:], torch.zeros(4, dtype=torch.int64))
    assert stack.weights.shape == (4, 3) and bool(torch.isfinite(torch.view_as_real(stack.weights)).all())
    assert settings["ridge"] == 1e-2


def test_longer_requests_take_the_last_weights():
    h_past = rays(5, 2)[:, :16]
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.complex64)
    out = StackPredictor([HoldPredictor(), MeanPredictor()], weights).predict(h_past, 3)
    assert torch.equal(out[:, 0], h_past[:, -1])
    torch.testing.assert_close(out[:, 1:], MeanPredictor().predict(h_past, 2))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"must be \[step, 1\]"):
        StackPredictor([HoldPredictor()], torch.ones(4, 2))
    h = rays(6, 2)
    with pytest.raises(ValueError, match="have 2, 2, 3 links"):
        fit_stack(members(), h[:, :16], h[:, 16:], torch.arange(3))
