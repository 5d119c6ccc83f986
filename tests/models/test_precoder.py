"""The learned precoder: its classical start, symmetries, exact power, and what it makes of degenerate channels."""

from __future__ import annotations

import pytest
import torch

from airlam.baselines import rzf
from airlam.baselines.robust import certain_rates
from airlam.errors import CheckpointError
from airlam.interfaces import Precoder
from airlam.loading import load_precoder, load_predictor
from airlam.metrics import user_rates, utility
from airlam.models import AirlamConfig, AirlamModel, add_lora, load_learned_precoder, save_checkpoint, save_lora
from airlam.models.precoder import AirlamPrecoder, AirlamPrecoderConfig, LearnedPrecoder
from airlam.recipes import find_checkpoint


@pytest.fixture
def model(tiny_backbone):
    def make(head: float = 0.3, seed: int = 0, **config) -> AirlamPrecoder:
        """A small network whose head says something, unlike a new one's."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = AirlamPrecoder(AirlamPrecoderConfig(backbone=tiny_backbone, **config)).eval()
            torch.nn.init.normal_(made.head.weight, std=head)
        return made

    return make


def channels(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def covariance(*shape: int, level: float = 0.05, seed: int = 1) -> torch.Tensor:
    root = channels(*shape, shape[-1], seed=seed)
    return level * root.mH @ root / shape[-1]


@pytest.mark.parametrize("told", [False, True])
def test_an_untrained_precoder_is_regularised_zero_forcing(told, tiny_backbone):
    h, power = channels(6, 4, 8), torch.linspace(0.5, 2, 6)
    no = torch.rand(6, 4, generator=torch.Generator().manual_seed(2)) * 0.1 + 0.01  # of each user its own
    spread = covariance(6, 4, 8) if told else None
    start = AirlamPrecoder(AirlamPrecoderConfig(backbone=tiny_backbone))(h, power, no, spread)
    expected = rzf(h, power, no, error_covariance=spread)
    assert all(torch.allclose(w, expected, atol=2e-5) for w in start)  # single precision


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(("users", "antennas"), [(1, 4), (4, 16), (12, 8)])
def test_power_is_exact_for_any_number_of_users_and_antennas(users, antennas, told, model):
    h, power = channels(5, users, antennas), torch.tensor([1e-3, 0.1, 1.0, 7.0, 100.0])
    spread = covariance(5, users, antennas) if told else None
    precoder = LearnedPrecoder(model(), certain=False)
    assert isinstance(precoder, Precoder)
    w = precoder.precode(h, power, 0.05, error_covariance=spread)
    assert w.shape == (5, antennas, users)
    torch.testing.assert_close(w.abs().square().sum((-2, -1)), power, rtol=1e-6, atol=0)


def test_users_can_be_exchanged(model):
    h, spread = channels(3, 6, 8), covariance(3, 6, 8)
    no = torch.rand(3, 6, generator=torch.Generator().manual_seed(3)) * 0.1 + 0.01
    precoder, order = LearnedPrecoder(model()), torch.tensor([4, 2, 0, 5, 1, 3])
    one = precoder.precode(h, 1.0, no, error_covariance=spread)
    other = precoder.precode(h[:, order], 1.0, no[:, order], error_covariance=spread[:, order])
    torch.testing.assert_close(one[..., order], other, rtol=0, atol=1e-5)


def test_neither_phases_nor_units_matter(model):
    h, spread, precoder = channels(3, 4, 8), covariance(3, 4, 8), LearnedPrecoder(model())
    one = precoder.precode(h, 1.0, 0.05, error_covariance=spread)
    phase = torch.polar(torch.ones(3, 4), torch.arange(12.0).reshape(3, 4))
    turned = precoder.precode(h * phase[..., None], 1.0, 0.05, error_covariance=spread)
    torch.testing.assert_close(turned, one * phase.conj()[:, None], rtol=0, atol=2e-5)
    scaled = precoder.precode(1e3 * h, 4.0, 4 * 0.05 * 1e6, error_covariance=1e6 * spread)
    torch.testing.assert_close(scaled, 2 * one, rtol=0, atol=2e-5)


def test_an_entry_does_not_depend_on_its_neighbours(model):
    h, spread, precoder = channels(7, 4, 8), covariance(7, 4, 8), LearnedPrecoder(model(), chunk=2)
    one = precoder.precode(h, 1.0, 0.05, error_covariance=spread)
    alone = torch.cat([precoder.precode(h[i : i + 1], 1.0, 0.05, error_covariance=spread[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(one, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["sum_rate", "proportional_fair", "max_min"])
@pytest.mark.parametrize("told", [False, True])
def test_on_the_csi_it_was_given_it_is_never_below_its_start(kind, told, model):
    h, no = channels(64, 6, 8), torch.full((64, 6), 0.02)
    spread = covariance(64, 6, 8) if told else None
    made = model(head=1.0, utility=kind)  # random corrections: most of them make things worse
    w = LearnedPrecoder(made).precode(h, 1.0, no, error_covariance=spread)
    start = rzf(h, 1.0, no, error_covariance=spread)
    bold = LearnedPrecoder(made, certain=False).precode(h, 1.0, no, error_covariance=spread)
    worth = [utility(certain_rates(h, beams, no, spread), kind) for beams in (start, w, bold)]
    assert float((worth[1] - worth[0]).min()) > -1e-4  # rounding
    assert float((worth[2] - worth[0]).min()) < -0.1  # the last round alone would be


@pytest.mark.parametrize("told", [False, True])
def test_degenerate_channels_give_finite_feasible_beams(told, model):
    h = channels(4, 4, 8)
    h[0, 1] = h[0, 0]  # two users alike
    h[1] = 0  # nobody is there
    h[2, 3] = 0  # one is not there
    h[3] *= 1e-18
    spread = covariance(4, 4, 8) if told else None
    for no in (1e-12, 1.0, 1e12):
        w = LearnedPrecoder(model()).precode(h, 1.0, no, error_covariance=spread)
        assert torch.isfinite(torch.view_as_real(w)).all()
        assert float(w.abs().square().sum((-2, -1)).max()) <= 1 + 1e-5
        assert float(user_rates(h, w, no).min()) >= 0


def test_several_receive_antennas_and_no_entries(model):
    h, precoder = channels(3, 4, 2, 8), LearnedPrecoder(model(), rx_axis=True)
    assert precoder.precode(h, 1.0, 0.1).shape == (3, 8, 4)
    assert precoder.precode(h[:0], 1.0, 0.1).shape == (0, 8, 4)
    assert precoder.precode(h.to(torch.complex128), 1.0, 0.1).dtype == torch.complex128


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"h": torch.full((2, 4, 8), torch.nan, dtype=torch.complex64)}, "NaN"),
        ({"power": 0.0}, "power must be positive"),
        ({"no": -1.0}, "no must be positive"),
        ({"error_covariance": torch.zeros(2, 4, 8)}, r"\[..., user, tx_ant, tx_ant\]"),
        ({"error_covariance": torch.full((2, 4, 8, 8), torch.nan)}, "error_covariance contains NaN"),
    ],
)
def test_bad_requests_say_what_is_wrong(change, message, model):
    request = {"h": channels(2, 4, 8), "power": 1.0, "no": 0.1, "error_covariance": None} | change
    with pytest.raises(ValueError, match=message):
        LearnedPrecoder(model()).precode(request.pop("h"), **request)


@pytest.mark.parametrize(
    "config",
    [{"rounds": 0}, {"utility": "fame"}, {"backbone": {"model_type": "gpt2"}}, {"backbone": "a-folder"}],
)
def test_bad_configurations_are_refused(config):
    with pytest.raises(ValueError, match="must be"):
        AirlamPrecoderConfig(**config)


def test_checkpoints_and_adapters_come_back(tmp_path, model):
    made, h = model(), channels(3, 4, 8)
    save_checkpoint(made, tmp_path / "precoder", torch.bfloat16)
    loaded = load_precoder(tmp_path / "precoder")
    assert loaded.name == "precoder"
    expected = LearnedPrecoder(made).precode(h, 1.0, 0.05)
    torch.testing.assert_close(loaded.precode(h, 1.0, 0.05), expected, rtol=0, atol=0.05)  # weights in bfloat16

    base = load_learned_precoder(tmp_path / "precoder")
    base.config._name_or_path = str(tmp_path / "precoder")
    adapted = add_lora(base, rank=2)
    torch.testing.assert_close(LearnedPrecoder(adapted).precode(h, 1.0, 0.05), loaded.precode(h, 1.0, 0.05))
    torch.nn.init.normal_(adapted.base_model.model.head.lora_B["default"].weight)
    save_lora(adapted, tmp_path / "adapter")
    again = load_precoder(tmp_path / "adapter")
    torch.testing.assert_close(again.precode(h, 1.0, 0.05), LearnedPrecoder(adapted).precode(h, 1.0, 0.05))


def test_a_pretrained_backbone_is_taken_over():
    predictor = AirlamModel(AirlamConfig(num_tokens=16, num_groups=0))
    made = AirlamPrecoder.from_backbone(predictor, rounds=1)
    mine, theirs = made.backbone.state_dict(), predictor.backbone.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_names_that_are_no_precoder(tmp_path):
    with pytest.raises(CheckpointError, match="did you mean 'rzf'"):
        load_precoder("rzff")
    with pytest.raises(CheckpointError, match="predicts channels"):
        load_precoder("airlam-tiny")
    with pytest.raises(CheckpointError, match="airlam.load_precoder takes it"):
        load_predictor("airlam-precoder")
    (tmp_path / "x").mkdir()
    with pytest.raises(CheckpointError, match="config.json"):
        load_precoder(tmp_path / "x")


@pytest.mark.parametrize("name", ["airlam-precoder", "airlam-precoder-random-start"])
def test_shipped_precoders(name):
    """They load, hold together (SHA-256), state their limits, and gain where CSI is known to be wrong."""
    folder = find_checkpoint(name)
    card = (folder / "README.md").read_text()
    assert all(f"## {title}" in card for title in ("Training", "Scores", "Limits"))
    generator = torch.Generator().manual_seed(0)

    def white(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.complex64, generator=generator)

    # as many users as antennas, some of them known badly: not all of them should get the same
    truth, badly = white(200, 8, 8), torch.logspace(-2, 0, 8)[:, None, None]
    root = badly * white(200, 8, 8, 8) / 8**0.5
    csi = truth - (white(200, 8, 1, 8) @ root).squeeze(-2)
    spread, no = root.mH @ root, torch.full((200, 8), 0.01)
    w = load_precoder(name).precode(csi, 1.0, no, error_covariance=spread)
    start = rzf(csi, 1.0, no, error_covariance=spread)
    assert float((user_rates(truth, w, no) - user_rates(truth, start, no)).sum(-1).mean()) > 0.5  # bit/s/Hz


def test_exchanged_users_get_their_own_beams_to_the_bit():
    """Whatever rounding and near-ties between rounds do, they do it alike in every order."""
    g = torch.Generator().manual_seed(3)
    precoder = load_precoder("airlam-precoder-random-start")
    h = torch.randn(20, 5, 12, dtype=torch.complex64, generator=g) * torch.rand(20, 5, 1, generator=g)
    errors = 0.1 * torch.randn(20, 5, 12, 30, dtype=torch.complex64, generator=g)
    spread, order = errors @ errors.mH / 30, torch.randperm(5, generator=g)
    no = 0.01 + torch.rand(20, 5, generator=g)
    w = precoder.precode(h, 1.0, no, error_covariance=spread)
    swapped = precoder.precode(h[:, order], 1.0, no[:, order], error_covariance=spread[:, order])
    assert torch.equal(swapped, w[..., order])


def test_a_single_user_gets_a_matched_beam_however_unsure():
    h = torch.randn(7, 1, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    spread = torch.diag(torch.arange(8.0)).to(h.dtype).expand(7, 1, 8, 8)
    w = load_precoder("airlam-precoder").precode(h, 2.0, 0.1, error_covariance=spread)
    torch.testing.assert_close((h @ w).abs()[:, 0, 0], 2**0.5 * torch.linalg.vector_norm(h[:, 0], dim=-1))


def test_units_do_not_matter():
    h = torch.randn(4, 3, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    precoder = load_precoder("airlam-precoder")
    plain = precoder.precode(h, 1.0, 0.01)
    for unit in (1e-15, 1e15):
        torch.testing.assert_close(precoder.precode(unit * h, 1.0, 0.01 * unit**2), plain, rtol=0, atol=1e-3)
    assert torch.isfinite(torch.view_as_real(precoder.precode(1e18 * h, 1.0, 0.01))).all()


@pytest.mark.parametrize("name", ["rzf", "wmmse", "airlam-precoder"])
def test_what_is_no_covariance_is_refused(name):
    h = torch.randn(2, 3, 4, dtype=torch.complex64)
    eye = torch.eye(4, dtype=h.dtype).expand(2, 3, 4, 4)
    odd = torch.triu(torch.ones(4, 4)).to(h.dtype) * 1j
    for wrong in (-eye, eye + odd):
        with pytest.raises(ValueError, match="Hermitian and positive semidefinite"):
            load_precoder(name).precode(h, 1.0, 0.1, error_covariance=wrong)
    with pytest.raises(ValueError, match="no users"):
        load_precoder(name).precode(h[:, :0], 1.0, 0.1)
    with pytest.raises(TypeError, match="power must be a number"):
        load_precoder(name).precode(h, "one", 0.1)
