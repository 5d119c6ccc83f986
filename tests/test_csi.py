"""Lost slots: filled in by linear interpolation, and reported."""

import pytest
import torch

from airlam.csi import (
    Feedback,
    Impairment,
    dft_codebook,
    feed_back,
    impair,
    lose_slots,
    measure,
    measure_beams,
    observe_pilots,
    phase_combiner,
    quantise,
    receive,
    sweep_schedule,
    to_beam_delay,
    turn_to_last,
)


def test_a_linear_history_survives_any_loss():
    ramp = torch.arange(16.0)[:, None, None, None] * torch.tensor(1 - 2j) + 3
    h = ramp.expand(50, 16, 2, 1, 3)
    filled, observed = lose_slots(h, 0.5, torch.Generator().manual_seed(0))
    assert torch.allclose(filled, h, atol=1e-5)  # float32 rounding of values up to 34
    assert observed[:, 0].all() and observed[:, -1].all()
    assert 0.4 < float(observed[:, 1:-1].float().mean()) < 0.6  # 700 draws: standard error 0.02


def test_measured_slots_stay_as_they_are_and_lost_ones_do_not_count():
    generator = torch.Generator().manual_seed(1)
    h = torch.randn(5, 8, 2, 1, 1, dtype=torch.complex64, generator=generator)
    filled, observed = lose_slots(h, 0.4, torch.Generator().manual_seed(2))
    assert torch.equal(filled[observed], h[observed]) and not observed.all()
    other = torch.where(observed[..., None, None, None], h, 9.0)
    assert torch.equal(lose_slots(other, 0.4, torch.Generator().manual_seed(2))[0], filled)


def test_pilots_that_cannot_be():
    h, combiner = torch.ones(2, 3, 8, dtype=torch.complex64), phase_combiner(4, 8)
    with pytest.raises(ValueError, match="noise must not be negative"):
        observe_pilots(h, combiner, -1.0)
    with pytest.raises(ValueError, match="must be .pilot, tx_ant."):
        observe_pilots(h, phase_combiner(4, 7), 0.1)


def test_reports_get_better_with_bits_and_coefficients():
    h = torch.randn(4, 8, 12, 1, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))

    def off(*arguments) -> float:
        return float((feed_back(h, Feedback(*arguments), (1, 8, 1)) - h).abs().square().mean())

    assert off(96, 12, 12, 0.05) < 1e-4 < off(96, 4, 4, 3.0) < off(96, 2, 4, 3.0)
    assert off(96, 4, 4, 3.0) < off(48, 4, 4, 3.0) < off(12, 4, 4, 3.0)


def test_reports_hold_the_strongest_coefficients_with_quantised_phase_and_amplitude():
    h = torch.randn(2, 4, 12, 1, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    x = to_beam_delay(feed_back(h, Feedback(10, 3, 3, 3.0), (1, 8, 1)), (1, 8, 1)).flatten(2)
    kept = x.abs() > 1e-4
    assert int(kept.any(1).sum(-1).max()) <= 10
    steps = -20 / 3 * (x.abs() / x.abs().amax((1, 2), keepdim=True)).log10()
    # single precision after two transforms
    assert (steps[kept] - steps[kept].round()).abs().max() < 1e-2 and steps[kept].max() < 7.5
    eighths = x.angle()[kept] / (torch.pi / 4)
    assert (eighths - eighths.round()).abs().max() < 1e-2


def test_a_report_does_not_depend_on_other_links():
    h = torch.randn(3, 4, 12, 1, 4, dtype=torch.complex64)
    assert torch.equal(feed_back(h, Feedback(20))[1], feed_back(h[1:2], Feedback(20))[0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0,), "coefficients is 0"),
        ((49,), "between 1 and 48"),
        ((8, 0), "phase_bits is 0"),
        ((8, 3, 99), "amplitude_bits"),
        ((8, 3, 3, 0.0), "amplitude_step_db"),
    ],
)
def test_bad_reports_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        feed_back(torch.zeros(1, 2, 12, 1, 4, dtype=torch.complex64), Feedback(*arguments))


@pytest.mark.parametrize("snr_db", [-float("inf"), float("nan"), torch.tensor([10.0, -float("inf")])])
def test_noise_without_a_level_is_refused(snr_db):
    with pytest.raises(ValueError, match="csi_snr_db must be decibels above -inf, or inf for no noise, got"):
        measure(torch.ones(2, 4, 2, 1, 1, dtype=torch.complex64), snr_db)


@pytest.mark.parametrize(("scale", "snr_db"), [(1.0, -400.0), (1e18, -30.0), (0.0, -400.0)])
def test_noise_beyond_the_largest_number_is_refused(scale, snr_db):
    with pytest.raises(ValueError, match="is not finite in torch.float32; scale h, or raise csi_snr_db"):
        measure(scale * torch.ones(1, 4, 2, 1, 1, dtype=torch.complex64), snr_db)


def test_no_noise_is_no_noise():
    h = torch.ones(2, 4, 2, 1, 1, dtype=torch.complex64)
    assert torch.equal(measure(h, float("inf")), h)
    assert torch.equal(measure(0 * h, 10.0), 0 * h)


H = torch.ones(2, 4, 3, 1, 8, dtype=torch.complex64)
RANDOM = {
    "measure": lambda generator: measure(H, 20.0, generator),
    "impair": lambda generator: impair(
        H, Impairment(0.1), slot_duration=1e-3, subcarrier_spacing=30e3, generator=generator
    ),
    "lose_slots": lambda generator: lose_slots(H, 0.5, generator),
    "receive": lambda generator: receive(
        H, 20.0, Impairment(0.1, missing=0.5), generator, slot_duration=1e-3, subcarrier_spacing=30e3
    ),
    "phase_combiner": lambda generator: phase_combiner(4, 8, generator),
    "observe_pilots": lambda generator: observe_pilots(H[:, 0, :, 0], phase_combiner(4, 8), 0.1, generator),
    "measure_beams": lambda generator: measure_beams(H, dft_codebook((1, 8, 1)), 0.1, generator),
    "sweep_schedule": lambda generator: sweep_schedule(8, 2, 4, generator),
}


def test_every_function_with_a_generator_is_among_them():
    import inspect

    from airlam import csi

    public = {name: getattr(csi, name) for name in csi.__all__ if inspect.isfunction(getattr(csi, name))}
    assert {name for name, made in public.items() if "generator" in inspect.signature(made).parameters} == set(RANDOM)


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_in_the_place_of_a_generator_is_refused(name):
    with pytest.raises(TypeError, match=r"generator is 7, but must be a torch.Generator, .*manual_seed\(7\) makes"):
        RANDOM[name](7)
    RANDOM[name](torch.Generator().manual_seed(7))
    RANDOM[name](None)


def test_quantisation_halves_its_error_with_every_bit():
    h = torch.randn(3, 4, 8, 2, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    h[2] = 0
    errors = [float((quantise(h, bits)[:2] - h[:2]).abs().square().mean()) for bits in (6, 7, 8)]
    # a uniform error of step^2 / 12 in either part: the step is 8 rms / 2^bits, rms^2 = 1/2 of the mean power
    expected = [2 * (8 * 0.5**0.5 / 2**bits) ** 2 / 12 for bits in (6, 7, 8)]
    assert errors == pytest.approx(expected, rel=0.1)
    scaled = h * torch.tensor([1.0, 8.0, 1.0])[:, None, None, None, None]  # a power of two: exact
    assert torch.equal(quantise(scaled, 5)[1], 8 * quantise(h, 5)[1])
    for bits in (0, 25, 2.5):
        with pytest.raises(ValueError, match="bits is"):
            quantise(h, bits)


def test_turn_to_last_removes_what_a_receiver_adds_to_each_packet_and_looks_at_nothing_else():
    g = torch.Generator().manual_seed(3)
    h = torch.randn(2, 6, 12, 1, 4, dtype=torch.complex128, generator=g)
    factor = torch.randn(2, 6, 1, 1, 1, dtype=torch.complex128, generator=g)
    turned = turn_to_last(h)
    # the same packets with other phases and gains end at the same history, in the phase and power of the last one
    expected = turned * factor[:, -1:]
    torch.testing.assert_close(turn_to_last(factor * h), expected)
    torch.testing.assert_close(turned[:, -1], h[:, -1])
    power = turned.abs().square().sum((2, 3, 4))
    torch.testing.assert_close(power, power[:, -1:].expand(-1, 6))
    h[:, 2] = 0  # a lost packet
    assert float(turn_to_last(h)[:, 2].abs().max()) == 0.0
    with pytest.raises(TypeError, match="h_past must be complex"):
        turn_to_last(h.real)
    with pytest.raises(ValueError, match=r"must be \[..., slot, subcarrier, rx_ant, tx_ant\], got \[3, 4\]"):
        turn_to_last(h[0, :3, :4, 0, 0])
