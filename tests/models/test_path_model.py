"""The network that reads paths: untrained it is the classic, trained it is told apart by nothing but the paths."""

from __future__ import annotations

import math

import pytest
import torch

from airlam import load_predictor
from airlam.baselines.path_receiver import unrelated
from airlam.baselines.path_series import Paths, Posterior, Statistics
from airlam.baselines.paths import SLOPES, SPREAD, start
from airlam.errors import CheckpointError
from airlam.models import AirlamPaths, AirlamPathsConfig, AirlamPathsPredictor, load_paths, save_checkpoint
from airlam.models.path_tokens import PathTokens

SHAPE = (2, 3, 2)
SMALL = dict(model_type="roberta-prelayernorm", hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
             intermediate_size=32, vocab_size=2, max_position_embeddings=130, pad_token_id=1, bos_token_id=0,
             eos_token_id=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)  # fmt: skip


def made(trained: bool = False, **config) -> AirlamPaths:
    torch.manual_seed(0)
    model = AirlamPaths(AirlamPathsConfig(dict(SMALL), num_paths=12, **config)).eval()
    if trained:
        torch.nn.init.normal_(model.head.weight, std=0.2)
    return model


def found(model, h):
    return model.find(h / h.abs().square().mean((1, 2, 3, 4), keepdim=True).sqrt(), SHAPE)


def histories(links: int = 3, slots: int = 10, seed: int = 0, rays: int = 6) -> torch.Tensor:
    """``[link, slot, subcarrier, rx_ant, tx_ant]`` of a few plane waves and noise."""
    g = torch.Generator().manual_seed(seed)
    shift = 0.6 * torch.rand(links, rays, 4, generator=g) - 0.3
    shift[..., 0] *= 0.2
    waves = [
        torch.exp(2j * torch.pi * shift[..., i : i + 1] * torch.arange(n)) for i, n in enumerate((slots, 8, *SHAPE[1:]))
    ]
    gain = torch.randn(links, rays, SHAPE[0], generator=g, dtype=torch.complex64)
    h = torch.einsum("bkp,bkt,bkf,bkc,bkr->btfpcr", gain, *waves).flatten(3)[:, :, :, None]
    return h + 0.05 * torch.randn(h.shape, generator=g, dtype=h.dtype)


def test_untrained_it_has_the_statistics_of_the_classic():
    model = made()
    paths = found(model, histories())
    with torch.no_grad():
        statistics, log_scale, logit = model.statistics(paths)
    power, _, width = start(paths, SPREAD)
    levels = torch.tensor([1.0, *SLOPES], dtype=torch.float64)
    torch.testing.assert_close(statistics.power, power[:, None] * levels[:, None])
    torch.testing.assert_close(statistics.width, width[:, None].expand_as(statistics.width))
    torch.testing.assert_close(statistics.doppler, paths.shift[..., 0])
    assert float(log_scale.abs().max()) == 0 == float(logit.abs().max())


def test_phase_and_scale_of_the_history_pass_through():
    predictor = AirlamPathsPredictor(made(trained=True))
    h = histories()
    turned = predictor.predict(h * 3j, 4, port_shape=SHAPE)
    # paths closer than the resolution let roundings of single precision grow; half a percent of the amplitude
    torch.testing.assert_close(turned, 3j * predictor.predict(h, 4, port_shape=SHAPE), rtol=0, atol=0.05)


def test_links_do_not_depend_on_their_neighbours():
    predictor = AirlamPathsPredictor(made(trained=True))
    h = histories(4)
    h[1] = 0  # has no path at all
    together = predictor.predict(h, 3, port_shape=SHAPE)
    for link in range(4):
        # paths in noise: rounding moves them a little
        torch.testing.assert_close(together[link], predictor.predict(h[link], 3, port_shape=SHAPE), rtol=0, atol=5e-3)
    assert float(together[1].abs().max()) == 0


def test_antennas_without_common_waves_have_gains_of_their_own():
    """In a batch with others too; with the covariance of the errors, of which each antenna's stands alone."""
    predictor = AirlamPathsPredictor(made(trained=True))
    g = torch.Generator().manual_seed(3)
    turns = torch.exp(0.3j * torch.arange(10))[:, None, None, None]
    alone = turns * torch.randn(2, 1, 1, 1, math.prod(SHAPE), generator=g, dtype=torch.complex64)
    alone = alone + 0.05 * torch.randn(2, 10, 8, 1, math.prod(SHAPE), generator=g, dtype=torch.complex64)
    h = torch.cat([alone[:1], histories(2), alone[1:]])
    assert unrelated(h, SHAPE).tolist() == [True, False, False, True]
    together, covariance = predictor.predict_with_covariance(h, 3, port_shape=SHAPE)
    for link in range(4):
        torch.testing.assert_close(together[link], predictor.predict(h[link], 3, port_shape=SHAPE), rtol=0, atol=5e-3)
    variance = predictor.predict_with_variance(h, 3, port_shape=SHAPE)[1]
    of_ports = covariance.diagonal(dim1=-2, dim2=-1).real
    torch.testing.assert_close(of_ports.mean((2, 3, 4)), variance.mean((2, 3, 4)), rtol=0.02, atol=0)


def test_a_network_with_other_weights_says_something_else():
    h = histories()
    one, two = (AirlamPathsPredictor(made(trained)).predict(h, 3, port_shape=SHAPE) for trained in (False, True))
    assert float((one - two).abs().max()) > 1e-3


def test_features_do_not_depend_on_origins_of_axes():
    """A history seen from another antenna, subcarrier or slot on has the same tokens."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(1, 2, 8, 6, 3, 2, generator=g, dtype=torch.complex128)
    shift = 0.6 * torch.rand(1, 4, 4, generator=g, dtype=torch.float64) - 0.3
    live, noise = torch.ones(1, 4, dtype=torch.bool), torch.full((1,), 0.1, dtype=torch.float64)
    tokens = PathTokens.of(Paths.at(x, shift, live, noise))
    turned = PathTokens.of(Paths.at(x * torch.exp(torch.tensor(0.7j, dtype=x.dtype)), shift, live, noise))
    torch.testing.assert_close(turned.features, tokens.features)
    torch.testing.assert_close(turned.pairs, tokens.pairs)


def test_the_gradient_is_that_of_the_error():
    g = torch.Generator().manual_seed(2)
    x = torch.randn(1, 1, 6, 4, 2, 2, generator=g, dtype=torch.complex128)
    future = torch.randn(1, 1, 2, 4, 2, 2, generator=g, dtype=torch.complex128)
    shift = 0.6 * torch.rand(1, 3, 4, generator=g, dtype=torch.float64) - 0.3
    one = torch.full((1,), 0.1, dtype=torch.float64)
    paths = Paths.at(x, shift, torch.ones(1, 3, dtype=torch.bool), one, future)

    def error(power, doppler, width, noise):
        return paths.error(Posterior.of(paths, Statistics(power, doppler, width, noise), 2, 50).series()).sum()

    inputs = [torch.rand(1, 4, 3, generator=g, dtype=torch.float64) + 0.1, shift[..., 0], 0.01 + 0 * shift[..., 0], one]
    assert torch.autograd.gradcheck(error, [x.clone().requires_grad_() for x in inputs], rtol=1e-4, atol=1e-6)


def test_the_mixture_has_the_error_that_is_trained_on():
    g = torch.Generator().manual_seed(6)
    x, truth, told = (torch.randn(2, 1, n, 4, 2, 2, generator=g, dtype=torch.complex128) for n in (6, 3, 3))
    shift = 0.6 * torch.rand(2, 3, 4, generator=g, dtype=torch.float64) - 0.3
    paths = Paths.at(x, shift, torch.ones(2, 3, dtype=torch.bool), torch.ones(2, dtype=torch.float64), truth)
    paths.tell_other(told, truth, torch.ones(2, 3))
    series = torch.randn(2, 4, 3, 1, 3, generator=g, dtype=torch.complex128)
    share = torch.rand(2, 3, generator=g, dtype=torch.float64)
    own = paths.synthesise(series, 1).unflatten(-1, (1, 2, 2)).permute(0, 4, 1, 2, 3, 5, 6).flatten(3, 4)
    both = own + share[:, None, :, None, None, None] * (told - own)
    error = (both - truth).abs().square().sum((1, 3, 4, 5))
    torch.testing.assert_close(paths.mixed_error(series, paths.error(series), share), error)


def test_the_model_inside_predicts_alone_where_it_states_far_less_error():
    model = made(trained=True)
    paths = found(model, histories())
    with torch.no_grad():
        for variance, wanted in ((1e-9, 1.0), (1e9, 0.0)):
            share = model.extrapolate(paths, 2, torch.full((3, 2), variance)).share
            torch.testing.assert_close(share, torch.full_like(share, wanted), rtol=0, atol=1e-3)


def test_the_covariance_is_that_of_atoms_written_out():
    g = torch.Generator().manual_seed(7)
    x = torch.randn(1, 1, 6, 4, 3, 2, generator=g, dtype=torch.complex128)
    shift = 0.6 * torch.rand(1, 3, 4, generator=g, dtype=torch.float64) - 0.3
    paths = Paths.at(x, shift, torch.ones(1, 3, dtype=torch.bool), torch.full((1,), 0.1, dtype=torch.float64))
    power = torch.rand(1, 4, 3, generator=g, dtype=torch.float64)
    posterior = Posterior.of(paths, Statistics(power, shift[..., 0], 0.01 + 0 * shift[..., 0], paths.noise), 2, 50)
    found = posterior.port_covariance()
    tones, columns, rows = paths.waves()
    for slot, tone in ((0, 1), (1, 3)):
        lines = []
        for atom, owner in enumerate(posterior.owner[0].tolist()):
            kind, path = divmod(owner, 3)
            space = torch.outer(columns[0, path, kind], rows[0, path, kind]).flatten()
            lines.append(posterior.ahead[0, atom, slot] * tones[0, path, kind, tone] * space)
        u = torch.stack(lines)
        wanted = u.mH @ posterior.covariance[0].conj() @ u
        torch.testing.assert_close(found[0, slot, tone], wanted)
    mean = found.diagonal(dim1=-2, dim2=-1).real.mean((2, 3))
    torch.testing.assert_close(mean, posterior.variance())


def test_variance_and_covariance_agree_in_the_mean():
    predictor = AirlamPathsPredictor(made(trained=True))
    h = histories()
    future, variance = predictor.predict_with_variance(h, 2, port_shape=SHAPE)
    same, covariance = predictor.predict_with_covariance(h, 2, port_shape=SHAPE)
    torch.testing.assert_close(same, future, rtol=0, atol=1e-3)
    diagonal = covariance.diagonal(dim1=-2, dim2=-1).real
    torch.testing.assert_close(diagonal.mean((2, 3, 4)), variance.mean((2, 3, 4)), rtol=1e-3, atol=0)
    torch.testing.assert_close(covariance, covariance.mH, rtol=1e-4, atol=1e-6)
    few = predictor.predict_with_covariance(h, 2, port_shape=SHAPE, subcarriers=torch.tensor([1, 5]))
    torch.testing.assert_close(few[0], future[:, :, [1, 5]], rtol=0, atol=1e-3)  # roundings, as above
    torch.testing.assert_close(few[1], covariance[:, :, [1, 5]], rtol=1e-2, atol=1e-5)


def test_some_subcarriers_are_those_of_all():
    model, h = made(trained=True), histories()
    wanted = torch.tensor([1, 5])
    with torch.no_grad():
        future, variance = model.forward_with_variance(h, 2, port_shape=SHAPE, subcarriers=wanted)
        whole = model.forward_with_variance(h, 2, port_shape=SHAPE)[0]
    assert future.shape == variance.shape == (3, 2, 2, 1, 12)
    # the stated variances are means over other subcarriers, so the shares differ a little
    assert float((future - whole[:, :, wanted]).abs().max()) < 0.05 * float(whole.abs().max())


def test_what_stands_in_a_slot_that_was_not_measured_does_not_matter():
    model = made(trained=True)
    h, observed = histories(), torch.ones(3, 10, dtype=torch.bool)
    observed[1, 4] = False
    context, other = {"observed": observed}, h.clone()
    other[1, 4] = 7.0
    told = AirlamPathsPredictor(model).predict(h, 2, port_shape=SHAPE, context=context)
    assert torch.equal(told, AirlamPathsPredictor(model).predict(other, 2, port_shape=SHAPE, context=context))
    alone = AirlamPathsPredictor(model).predict(h, 2, port_shape=SHAPE)
    assert float((told - alone)[1].abs().max()) > 1e-3
    torch.testing.assert_close(told[::2], alone[::2], rtol=0, atol=1e-2)


def test_several_histories_serve_links_that_keep_enough_measured_slots():
    h = histories(slots=12)
    observed = torch.ones(3, 12, dtype=torch.bool)
    observed[2, 5:] = False
    one, two = made(trained=True), made(trained=True, views=2)
    with torch.no_grad():
        first, variance = one.forward_with_variance(h, 3, port_shape=SHAPE, observed=observed)
        both, less = two.forward_with_variance(h, 3, port_shape=SHAPE, observed=observed)
    asked = AirlamPathsPredictor(one, views=2).predict(h, 3, port_shape=SHAPE, context={"observed": observed})
    torch.testing.assert_close(asked, both)
    torch.testing.assert_close(both[2], first[2], rtol=0, atol=1e-4)  # single precision, other links in the batch
    assert bool(((both - first).abs().amax((1, 2, 3, 4))[:2] > 1e-3).all())
    assert bool((less > 0).all()) and float(less[:2].mean()) < 1.1 * float(variance[:2].mean())


def test_it_comes_back_from_its_folder(tmp_path):
    model = made(trained=True)
    save_checkpoint(model, tmp_path / "mine")
    h = histories()
    kept = load_predictor(tmp_path / "mine")
    assert kept.name == "mine"
    expected = AirlamPathsPredictor(model).predict(h, 3, port_shape=SHAPE)
    torch.testing.assert_close(kept.predict(h, 3, port_shape=SHAPE), expected, rtol=0, atol=1e-5)
    with pytest.raises(CheckpointError, match="load_predictor takes it"):
        from airlam.models import load_checkpoint

        load_checkpoint(tmp_path / "mine")
    assert load_paths(tmp_path / "mine").config.num_paths == 12


@pytest.mark.parametrize(
    "bad", [{"num_paths": 0}, {"threshold": 0.5}, {"final": 1}, {"num_atoms": 0}, {"views": 0}, {"width": 3}]
)
def test_fields_out_of_bounds_are_refused(bad):
    with pytest.raises(ValueError, match="must be|no field|has no"):
        AirlamPathsConfig(**bad)
