"""The mean of the history, and the predictors that set it aside."""

import pytest
import torch

from airlam.baselines import ARPredictor, EigenARPredictor, HoldPredictor, MeanPredictor, tune
from airlam.metrics import nmse


def static(seed: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Channels that stand still, measured with noise: histories of 16 slots, and the 4 measured slots that follow."""
    g = torch.Generator().manual_seed(seed)
    h = torch.randn(24, 1, 12, 1, 2, dtype=torch.complex64, generator=g)
    h = h + noise * torch.randn(24, 20, 12, 1, 2, dtype=torch.complex64, generator=g)
    return h[:, :16], h[:, 16:]


def test_weights_fade_by_the_forgetting():
    h_past = torch.tensor([8.0, 4.0, 2.0], dtype=torch.complex64).reshape(3, 1, 1, 1)
    out = MeanPredictor(forgetting=0.5).predict(h_past, 3)
    # (8 / 4 + 4 / 2 + 2) / (1 / 4 + 1 / 2 + 1)
    torch.testing.assert_close(out.flatten().real, torch.full((3,), 24 / 7))


def test_it_ends_at_hold_and_at_the_plain_mean():
    h_past = static(0, 0.5)[0]
    assert torch.equal(MeanPredictor(forgetting=0.0).predict(h_past, 4), HoldPredictor().predict(h_past, 4))
    mean = h_past.mean(1, keepdim=True).expand(-1, 4, -1, -1, -1)
    torch.testing.assert_close(MeanPredictor().predict(h_past, 4), mean)


def test_error_on_a_static_channel_is_that_of_theory():
    """Noise of variance v: the target's own v and the mean's v / 16, against hold's v and v."""
    h_past, h_future = static(1, 0.3)
    error = float((MeanPredictor().predict(h_past, 4) - h_future).abs().square().mean())
    assert error == pytest.approx(0.09 * (1 + 1 / 16), rel=0.06)  # 2,304 complex samples: 2 % standard deviation


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize(
    ("build", "name"),
    [(MeanPredictor, "forgetting"), (ARPredictor, "mean_share"), (EigenARPredictor, "mean_share")],
)
def test_shares_outside_zero_and_one_are_refused(build, name, bad):
    with pytest.raises(ValueError, match=rf"{name} must lie in \[0, 1\]"):
        build(**{name: bad})


@pytest.mark.parametrize("build", [ARPredictor, EigenARPredictor])
def test_a_filter_shrunk_to_zero_leaves_the_mean(build):
    h_past = static(2, 0.5)[0]
    found = build(mean_share=1.0, ridge=1e6, shrinkage=float("inf")).predict(h_past, 4)
    # a ridge of 1e6 leaves a millionth of the deviations
    torch.testing.assert_close(found, MeanPredictor().predict(h_past, 4), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("build", [ARPredictor, EigenARPredictor])
def test_the_mean_is_set_aside_and_added_again(build):
    """A constant added to every slot passes through unchanged when all of the mean is set aside."""
    h_past = static(3, 0.5)[0]
    moved = build(mean_share=1.0).predict(h_past + (3 - 2j), 4)
    torch.testing.assert_close(moved, build(mean_share=1.0).predict(h_past, 4) + (3 - 2j), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("build", [ARPredictor, EigenARPredictor])
def test_tuned_on_a_noisy_static_channel_it_reaches_the_mean(build):
    """With ``mean_share`` fixed at 0, both stay 0.35 dB above it here (order 12, the largest ridge of the grid)."""
    h_past, h_future = static(5, 0.7)
    chosen = build(**tune(build, *static(4, 0.7), batch_size=24, max_sweeps=2))
    best = float(nmse(MeanPredictor().predict(h_past, 4), h_future))
    assert float(nmse(chosen.predict(h_past, 4), h_future)) < 1.02 * best
