"""The network that reads pilots: its start, symmetries, honesty about errors, what pilots it refuses."""

from __future__ import annotations

import pytest
import torch

from airlam.baselines import TrainingLMMSE
from airlam.csi import observe_pilots, phase_combiner
from airlam.errors import CheckpointError
from airlam.loading import load_precoder
from airlam.models import AirlamPilots, AirlamPilotsConfig, PilotPrecoder, load_pilots, save_checkpoint
from airlam.models.pilots import directions, root_of, separable_powers, tap_modes
from airlam.recipes import find_checkpoint

SHAPE = (2, 4, 2)  # 16 ports


@pytest.fixture
def network(tiny_backbone):
    def make(head: float = 0.1) -> AirlamPilots:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = AirlamPilots(AirlamPilotsConfig(tiny_backbone)).eval()
            torch.nn.init.normal_(made.head.weight, std=head)
        return made

    return make


def users(count: int, rays: int = 3, seed: int = 0) -> torch.Tensor:
    """Channels of a few rays each, ``[user, 24 tones, 16 ports]``, of about unit power."""
    g = torch.Generator().manual_seed(seed)
    grid = directions(SHAPE)
    where = torch.randint(grid.shape[1], (count, rays), generator=g)
    delay = torch.rand(count, rays, generator=g) * 0.3
    gain = torch.randn(count, rays, dtype=torch.complex64, generator=g) / rays**0.5
    tone = torch.polar(torch.ones(count, rays, 24), -6.2832 * delay[..., None] * torch.arange(24))
    beams = grid.T[where] * 4  # of unit mean power per port but for one polarisation
    return torch.einsum("ur,urf,ura->ufa", gain, tone, beams)


def test_directions_are_a_tight_frame():
    grid = directions(SHAPE)
    torch.testing.assert_close(grid @ grid.mH, 64 / 8 * torch.eye(16, dtype=torch.complex64), rtol=1e-5, atol=1e-5)


def test_without_a_covariance_and_with_all_pilots_nothing_is_lost(network):
    h, combiner = users(6), phase_combiner(16, 16)
    with torch.inference_mode():
        found, _ = network(0.0)(observe_pilots(h, combiner, 1e-6), combiner, 1e-6, port_shape=SHAPE)
    assert float((found - h).abs().square().sum() / h.abs().square().sum()) < 1e-3


def test_the_start_beats_the_mean_covariance_and_its_errors_are_as_large_as_said(network):
    h, combiner, noise = users(200), phase_combiner(10, 16, torch.Generator().manual_seed(1)), 0.05
    y = observe_pilots(h, combiner, noise, torch.Generator().manual_seed(2))
    others = users(400, seed=9)
    flat = TrainingLMMSE.of(others[:, None, :, None]).from_pilots(y, combiner, noise)[0]
    antenna = torch.einsum("ufa,ufb->ab", others, others.conj())
    with torch.inference_mode():
        found, covariance = network(0.0)(y, combiner, noise, port_shape=SHAPE, antenna_covariance=antenna)
    real = (found - h).abs().square().mean()
    assert float(real) < 0.9 * float((flat - h).abs().square().mean())
    assert 0.4 < float(covariance.diagonal(dim1=-2, dim2=-1).real.mean() / real) < 2.5
    assert float(torch.linalg.eigvalsh(covariance).min()) > -1e-3


def test_more_steps_explain_the_pilots_better():
    h, noise = users(50), torch.full((50, 1), 0.05)
    combiner = phase_combiner(6, 16, torch.Generator().manual_seed(1))
    y = torch.fft.ifft(observe_pilots(h, combiner, 0.05, torch.Generator().manual_seed(2)), dim=1, norm="ortho")
    phi = combiner @ directions(SHAPE)

    def likelihood(steps: int) -> float:
        taps, power = separable_powers(y, phi, noise, steps)
        seen = (phi * (taps[..., None] * power[:, None])[:, :, None]) @ phi.mH + 0.05 * torch.eye(6)
        fit = (y.conj() * torch.linalg.solve(seen, y[..., None])[..., 0]).real.sum((-2, -1))
        return float((-fit - torch.linalg.slogdet(seen)[1].sum(-1)).mean())

    assert likelihood(20) > likelihood(3) > likelihood(1)


def test_users_are_alone_and_neither_phase_nor_unit_matters(network):
    h, combiner = users(5), phase_combiner(6, 16, torch.Generator().manual_seed(1))
    y, made = observe_pilots(h, combiner, 0.05, torch.Generator().manual_seed(2)), network()
    with torch.inference_mode():
        one, spread = made(y, combiner, 0.05, port_shape=SHAPE)
        alone, _ = made(y[2:3], combiner, 0.05, port_shape=SHAPE)
        turned, same = made(1e3j * y, combiner, 0.05e6, port_shape=SHAPE)
    torch.testing.assert_close(alone[0], one[2], rtol=0, atol=1e-4)
    torch.testing.assert_close(turned, 1e3j * one, rtol=0, atol=0.3)  # 3e-4 of the unit
    torch.testing.assert_close(same, 1e6 * spread, rtol=2e-3, atol=1e3)


def test_root_of_a_covariance():
    x = torch.randn(5, 3, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    covariance = x @ x.mH  # of rank three
    root = root_of(7 * covariance)
    torch.testing.assert_close(root @ root.mH, covariance / covariance.diagonal().real.mean())


def test_pilots_to_beams_and_checkpoints(tmp_path, network):
    made, h, combiner = network(), users(3), phase_combiner(4, 16, torch.Generator().manual_seed(1))
    save_checkpoint(made, tmp_path / "pilots")
    y = observe_pilots(h, combiner, 0.05)
    one, other = (
        PilotPrecoder(x, load_precoder("rzf")).precode(y, combiner, 0.05, 2.0, 0.01, port_shape=SHAPE)
        for x in (made, load_pilots(tmp_path / "pilots"))
    )
    assert one.shape == (24, 16, 3)
    torch.testing.assert_close(one.abs().square().sum((-2, -1)), torch.full((24,), 2.0))
    torch.testing.assert_close(one, other)
    with pytest.raises(CheckpointError, match="of type 'airlam'"):
        load_pilots("checkpoints/airlam-tiny")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": torch.zeros(3, 24, 5, dtype=torch.complex64)}, ValueError, "must be .user, subcarrier, pilot"),
        ({"y": torch.zeros(3, 24, 4)}, TypeError, "y must be a complex"),
        ({"y": torch.full((3, 24, 4), torch.nan, dtype=torch.complex64)}, ValueError, "y contains NaN"),
        ({"noise": 0.0}, ValueError, "noise must be positive"),
        ({"power": -1.0}, ValueError, "power must be positive"),
        ({"port_shape": (2, 3, 2)}, ValueError, "16"),
        ({"combiner": torch.zeros(4, 16, dtype=torch.complex64)}, ValueError, "row of zeros"),
        ({"antenna_covariance": -torch.eye(16)}, ValueError, "antenna_covariance must be Hermitian"),
        ({"antenna_covariance": torch.eye(15)}, ValueError, r"must be a tensor .16, 16."),
        ({"antenna_covariance": torch.full((16, 16), torch.nan)}, ValueError, "antenna_covariance contains NaN"),
        ({"tone_covariance": torch.zeros(24, 24)}, ValueError, "tone_covariance is zero"),
    ],
)
def test_bad_pilots(change, error, message, network):
    combiner = phase_combiner(4, 16, torch.Generator().manual_seed(1))
    request = (
        dict(
            y=observe_pilots(users(3), combiner, 0.05),
            combiner=combiner,
            noise=0.05,
            power=1.0,
            no=0.01,
            port_shape=SHAPE,
        )
        | change
    )
    with pytest.raises(error, match=message):
        PilotPrecoder(network(), load_precoder("rzf")).precode(**request)


def test_silence_and_panels_that_are_too_wide(network):
    combiner = phase_combiner(4, 16, torch.Generator().manual_seed(1))
    y = torch.zeros(2, 24, 4, dtype=torch.complex64)
    w = PilotPrecoder(network(), load_precoder("rzf")).precode(y, combiner, 0.05, 1.0, 0.01, port_shape=SHAPE)
    assert torch.isfinite(torch.view_as_real(w)).all()
    with pytest.raises(ValueError, match="at most 8"):
        directions((1, 16, 1))
    with pytest.raises(ValueError, match="between 1 and 16"):
        phase_combiner(17, 16)


def test_shipped_network():
    """It loads, holds together (SHA-256), states its limits, and beats its own start."""
    folder = find_checkpoint("airlam-pilots")
    card = (folder / "README.md").read_text()
    assert all(f"## {title}" in card for title in ("Training", "Scores", "Limits"))
    h, combiner = users(100), phase_combiner(8, 16, torch.Generator().manual_seed(1))
    y, made = observe_pilots(h, combiner, 0.05, torch.Generator().manual_seed(2)), load_pilots(folder)
    with torch.inference_mode():
        errors = [
            (made(y, combiner, 0.05, port_shape=SHAPE, correction=on)[0] - h).abs().square().mean((1, 2)).log().mean()
            for on in (True, False)
        ]
    assert float(errors[0]) < float(errors[1])


def test_modes_of_the_band_are_unitary_and_sorted():
    h = users(50)
    covariance = torch.einsum("ufa,uga->fg", h, h.conj())
    modes, power = tap_modes(24, 3.0 * covariance)
    torch.testing.assert_close(modes.mH @ modes, torch.eye(24, dtype=torch.complex64), rtol=0, atol=1e-5)
    rebuilt = (modes * power) @ modes.mH
    expected = (covariance / covariance.diagonal().real.mean()).to(torch.complex64)
    torch.testing.assert_close(rebuilt, expected, rtol=0, atol=1e-5)
    assert (power.diff() <= 1e-6).all()
    modes, power = tap_modes(24, None)
    taps = torch.randn(24, dtype=torch.complex64)
    torch.testing.assert_close(modes @ taps, torch.fft.fft(taps, norm="ortho"), rtol=0, atol=1e-5)
    assert (power == 1).all()
    with pytest.raises(ValueError, match="tone_covariance"):
        tap_modes(24, covariance[:20, :20])


def test_a_known_band_helps_and_errors_are_told_tone_by_tone(network):
    """Delays that fill a third of the DFT's range: the eigenmodes leave two thirds of the noise out."""
    h, combiner, noise = users(200, seed=3), phase_combiner(16, 16), 0.1
    y, others = observe_pilots(h, combiner, noise, torch.Generator().manual_seed(2)), users(400, seed=9)
    tone = torch.einsum("ufa,uga->fg", others, others.conj())
    with torch.inference_mode():
        plain, _ = network(0.0)(y, combiner, noise, port_shape=SHAPE)
        found, covariance = network(0.0)(y, combiner, noise, port_shape=SHAPE, tone_covariance=tone)
    error = (found - h).abs().square()
    assert float(error.mean()) < 0.9 * float((plain - h).abs().square().mean())
    said, real = covariance.diagonal(dim1=-2, dim2=-1).real.mean((0, 2)), error.mean((0, 2))  # of each tone
    assert float((said.log() - said.log().mean() - real.log() + real.log().mean()).abs().max()) < 0.5
    assert float(real[0]) > float(real[12])  # edges of the band are worse
