"""Beam measurements and classical beam prediction, in closed form."""

from __future__ import annotations

import pytest
import torch

from airlam.baselines import LastBest, LinearExtrapolation, SoftmaxRegression, TrainedLinear
from airlam.csi import beam_power, dft_codebook, measure_beams, sweep_schedule

ALL = torch.ones(4, 3, dtype=torch.bool)


def test_a_plane_wave_has_one_beam():
    codebook = dft_codebook((2, 4, 2))
    h = codebook[:, 5].conj().expand(1, 1, 6, 1, -1) * 4  # unit norm times 4, the same on every tone
    power = beam_power(h, codebook)
    torch.testing.assert_close(power[0, 0], 16 * torch.nn.functional.one_hot(torch.tensor(5), 16).float())


def test_measurements_are_power_over_noise_plus_one():
    h = torch.zeros(1, 1, 4000, 2, 8, dtype=torch.complex64)
    h[..., 0] = 2.0
    seen = measure_beams(h, dft_codebook((1, 8, 1)), 0.5, torch.Generator().manual_seed(0))
    expected = torch.full((1, 1, 8), 4 / 8 / 0.5 + 1)  # of each antenna: |2|^2 in equal shares on eight beams
    torch.testing.assert_close(seen, expected, rtol=0.1, atol=0)  # mean of 8,000: 2 % (1 sigma)
    with pytest.raises(ValueError, match="noise must be a positive"):
        measure_beams(h, dft_codebook((1, 8, 1)), 0.0)


@pytest.mark.parametrize("count", [1, 3, 8, 16])
def test_every_beam_has_its_turn(count):
    schedule = sweep_schedule(16, count, 16)
    assert (schedule.sum(1) == count).all() and (schedule.sum(0) == count).all()
    with pytest.raises(ValueError, match="between 1 and 16"):
        sweep_schedule(16, 17, 2)


def test_last_best_takes_the_last_measurement_of_each_beam():
    power = torch.tensor([[[5.0, 1.0, 1.0], [0.5, 9.0, 1.0], [7.0, 2.0, 3.0], [4.0, 4.0, 6.0]]])
    seen = ALL.clone()
    seen[3, :2] = False
    torch.testing.assert_close(LastBest().scores(power, seen, 2).exp()[0, 1], torch.tensor([7.0, 2.0, 6.0]))
    averaged = LastBest(0.5).scores(power, seen, 1).exp()[0, 0]
    torch.testing.assert_close(averaged[1], torch.tensor((2 + 9 / 2 + 1 / 4) / 1.75))
    seen[:, 2] = False
    power[:, :, 2] = torch.nan  # never looked at
    assert int(LastBest().scores(power, seen, 1).argmax(-1)) == 0


def test_exponential_growth_is_extrapolated_exactly():
    rate = torch.tensor([0.3, -0.2, 0.0])
    power = (rate * torch.arange(4.0)[:, None] + torch.tensor([0.0, 2.0, 1.0])).exp()[None]
    seen = ALL.clone()
    seen[1, 0] = False
    for window in (2, 4):
        found = LinearExtrapolation(window).scores(power, seen, 3)
        expected = rate * torch.arange(4.0, 7.0)[:, None] + torch.tensor([0.0, 2.0, 1.0])
        torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-4)
    flat = LinearExtrapolation(4, 1e9).scores(power, ALL, 1)[0, 0]
    torch.testing.assert_close(flat, power.log().mean(1)[0], rtol=0, atol=1e-4)
    seen[:3, 1] = False  # measured once: stays
    torch.testing.assert_close(LinearExtrapolation(2).scores(power, seen, 1)[0, 0, 1], power[0, 3, 1].log())


def test_the_trained_one_learns_what_beams_say_of_each_other():
    """Beam 2 is never measured, but is always twice beam 0."""
    g = torch.Generator().manual_seed(0)
    power = torch.rand(300, 4, 3, generator=g) + 0.1
    power[..., 2] = 2 * power[..., 0]
    seen = ALL.clone()
    seen[:, 2] = False
    future = power[:, -1:]
    made = TrainedLinear.fit(power[:200], seen, future[:200], ridge=1e-3)
    torch.testing.assert_close(made.scores(power[200:], seen, 1)[:, 0], future[200:, 0].log(), rtol=0, atol=0.02)
    with pytest.raises(ValueError, match="trained for 12 measurements and horizon 1"):
        made.scores(power, seen, 2)
    with pytest.raises(ValueError, match="another schedule"):
        made.scores(power, ALL, 1)
    with pytest.raises(ValueError, match="ridge must be a finite number and not negative"):
        TrainedLinear.fit(power, seen, future, ridge=-1.0)
    with pytest.raises(ValueError, match="future contains NaN"):
        TrainedLinear.fit(power, seen, torch.full_like(future, torch.nan))


def _softmax_problem():
    g = torch.Generator().manual_seed(3)
    power = torch.rand(240, 2, 4, generator=g) + 0.1
    measured = torch.tensor([[True, True, True, False], [True, False, True, False]])
    noise = 0.1 * torch.rand(240, 2, 4, generator=g)
    future = torch.stack([power[:, 0], power[:, 1]], 1) + noise
    future[..., 3] = 0.5
    return power, measured, future


def test_softmax_regression_is_where_its_objective_has_no_slope():
    """Cross-entropy plus ridge, written anew in double precision on standardised inputs."""
    power, measured, future = _softmax_problem()
    ridge = 3.0
    made = SoftmaxRegression.fit(power, measured, future, ridge=ridge)
    x = power.double().log().flatten(1)[:, measured.flatten()]
    scale = x.std(0, correction=0)
    z = (x - x.mean(0)) / scale
    found = made.weight.double()[1:][measured.flatten()] * scale[:, None]
    constant = made.weight.double()[0] + x.mean(0) @ made.weight.double()[1:][measured.flatten()]
    weight, constant = found.clone().requires_grad_(), constant.clone().requires_grad_()
    scores = (z @ weight + constant).unflatten(1, (2, 4)).flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(scores, future.argmax(-1).flatten(), reduction="sum")
    (loss + ridge / 2 * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 0.05 and constant.grad.abs().max() < 0.05  # of 240 tracks
    # beams that no sweep measured say nothing
    assert not made.weight[1:][~measured.flatten()].any()
    assert made.num_weights == 6 * 2 * 4


def test_softmax_regression_repeats_itself_and_ranks_as_it_should():
    power, measured, future = _softmax_problem()
    first, second = (SoftmaxRegression.fit(power, measured, future, ridge=1.0) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    hit = first.scores(power, measured, 2).argmax(-1)[:, 0] == future.argmax(-1)[:, 0]
    assert float(hit.float().mean()) > 0.9
    # all ridge: the share of each beam in the training tracks
    flat = SoftmaxRegression.fit(power, measured, future, ridge=1e9)
    best = torch.nn.functional.one_hot(future.argmax(-1), 4).double().mean(0)
    torch.testing.assert_close(flat.scores(power[:1], measured, 2)[0].softmax(-1).double(), best, atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="another schedule"):
        first.scores(power, ~measured, 1)
    with pytest.raises(ValueError, match="ridge must be a finite"):
        SoftmaxRegression.fit(power, measured, future, ridge=float("nan"))
    with pytest.raises(ValueError, match="does not fit power"):
        SoftmaxRegression.fit(power, measured, future[..., :3])


@pytest.mark.parametrize(
    ("power", "measured", "error", "message"),
    [
        (torch.zeros(4, 3), ALL, TypeError, "must be a real"),
        (torch.zeros(1, 4, 3), ALL.float(), TypeError, "bool"),
        (torch.zeros(1, 5, 3), ALL, ValueError, "does not fit"),
        (torch.zeros(1, 4, 3), ~ALL, ValueError, "no beam was measured"),
        (torch.full((1, 4, 3), torch.nan), ALL, ValueError, "finite and not negative"),
        (-torch.ones(1, 4, 3), ALL, ValueError, "finite and not negative"),
    ],
)
def test_bad_sweeps(power, measured, error, message):
    for tracker in (LastBest(), LinearExtrapolation()):
        with pytest.raises(error, match=message):
            tracker.scores(power, measured, 1)


def test_bad_settings():
    for make, message in (
        (lambda: LastBest(1.0), "memory"),
        (lambda: LinearExtrapolation(1), "at least 2"),
        (lambda: LinearExtrapolation(2, -1.0), "ridge"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(ValueError, match="horizon is 0"):
        LastBest().scores(torch.ones(1, 4, 3), ALL, 0)


def test_beams_of_what_is_no_channel():
    beams, h = dft_codebook((1, 4, 2)), torch.ones(2, 3, 5, 1, 8, dtype=torch.complex64)
    for wrong in ((8, 8), (1, 0, 8), (1, 2.0, 4), None):
        with pytest.raises(ValueError, match="three whole numbers"):
            dft_codebook(wrong)
    with pytest.raises(TypeError, match="must be complex"):
        beam_power(h.real, beams)
    with pytest.raises(ValueError, match="must be .* rx_ant, tx_ant"):
        beam_power(h[..., :7], beams)
    with pytest.raises(ValueError, match="must be .* rx_ant, tx_ant"):
        measure_beams(h[0, :, :, 0], beams, 1.0)
    for noise in (float("inf"), "1", torch.ones(2)):
        with pytest.raises(ValueError, match="noise must be a positive"):
            measure_beams(h, beams, noise)
    with pytest.raises(ValueError, match="num_sweeps is -1"):
        sweep_schedule(8, 2, -1)
