"""Beam prediction: its start, what it must not depend on, codebooks of any size, what it refuses."""

from __future__ import annotations

import pytest
import torch

from airlam.channels import load_channel
from airlam.csi import beam_power, dft_codebook, measure_beams, sweep_schedule
from airlam.errors import CheckpointError
from airlam.models import AirlamBeams, AirlamBeamsConfig, AirlamModel, load_beams, load_checkpoint, save_checkpoint
from airlam.recipes import find_checkpoint


@pytest.fixture
def network(tiny_backbone):
    def make(head: float = 0.1) -> AirlamBeams:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = AirlamBeams(AirlamBeamsConfig(tiny_backbone, history=5, horizon=3)).eval()
            torch.nn.init.normal_(made.head.weight, std=head)
        return made

    return make


def sweeps(beams: int = 12, count: int = 5, batch: int = 3):
    g = torch.Generator().manual_seed(1)
    return torch.rand(batch, count, beams, generator=g) * 10, sweep_schedule(beams, 4, count, g)


def test_starts_as_the_average(network):
    power, measured = sweeps()
    made = network(0.0)
    found, start = made.scores(power, measured, 3, port_shape=(1, 4, 3)), made.start.scores(power, measured, 3)
    assert found.shape == (3, 3, 12)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(3, 3))  # probabilities
    assert torch.equal(found.argmax(-1), start.argmax(-1))


def test_entries_are_alone_and_what_was_not_measured_is_not_seen(network):
    power, measured = sweeps()
    made = network()
    every = made.scores(power, measured, 2, port_shape=(1, 4, 3))
    alone = made.scores(power[1:2], measured, 2, port_shape=(1, 4, 3))
    torch.testing.assert_close(alone[0], every[1], rtol=0, atol=1e-5)
    power[~measured.expand_as(power)] = torch.nan
    torch.testing.assert_close(made.scores(power, measured, 2, port_shape=(1, 4, 3)), every, rtol=0, atol=1e-6)


def test_any_codebook_and_any_length_of_history(network):
    made = network()
    for beams, count, shape in ((7, 2, (1, 7, 1)), (32, 9, (2, 4, 4)), (1, 1, (1, 1, 1))):
        power = torch.rand(2, count, beams)
        found = made.scores(power, torch.ones(count, beams, dtype=torch.bool), 1, port_shape=shape)
        assert found.shape == (2, 1, beams) and torch.isfinite(found).all()
    power, measured = sweeps(count=9)  # of a longer history the last five
    last = made.scores(power[:, -5:], measured[-5:], 1, port_shape=(1, 4, 3))
    torch.testing.assert_close(made.scores(power, measured, 1, port_shape=(1, 4, 3)), last)
    measured[-5:] = False  # nothing in what is looked at
    with pytest.raises(ValueError, match="no beam was measured"):
        made.scores(power, measured, 1, port_shape=(1, 4, 3))
    with pytest.raises(ValueError, match="has 600 beams"):
        made.scores(torch.rand(1, 2, 600), torch.ones(2, 600, dtype=torch.bool), 1, port_shape=(1, 20, 30))


def test_on_a_pretrained_backbone_that_stays_as_it_is():
    backbone = load_checkpoint(find_checkpoint("airlam-tiny"))
    assert isinstance(backbone, AirlamModel)
    made = AirlamBeams.from_backbone(backbone, history=4, horizon=2)
    for (name, a), (_, b) in zip(made.backbone.named_parameters(), backbone.backbone.named_parameters(), strict=True):
        assert torch.equal(a, b) and a.data_ptr() != b.data_ptr(), name


def test_checkpoints(tmp_path, network):
    made, (power, measured) = network(), sweeps()
    save_checkpoint(made, tmp_path / "beams")
    found = load_beams(tmp_path / "beams")
    shape = dict(port_shape=(1, 4, 3))
    assert torch.equal(found.scores(power, measured, 3, **shape), made.scores(power, measured, 3, **shape))
    with pytest.raises(CheckpointError, match="of type 'airlam'"):
        load_beams("checkpoints/airlam-tiny")


def test_bad_input(network, tiny_backbone):
    power, measured = sweeps()
    made = network()
    with pytest.raises(ValueError, match="horizon is 4"):
        made.scores(power, measured, 4, port_shape=(1, 4, 3))
    with pytest.raises(ValueError, match="port_shape"):
        made.scores(power, measured, 1, port_shape=(1, 5, 3))
    with pytest.raises(ValueError, match="no beam was measured"):
        made.scores(power, torch.zeros_like(measured), 1, port_shape=(1, 4, 3))
    with pytest.raises(ValueError, match="history must be an integer of at least 1, got 0"):
        AirlamBeamsConfig(tiny_backbone, history=0)
    with pytest.raises(ValueError, match="memory must be a number from 0 to 1, below 1, got 1.5"):
        AirlamBeamsConfig(tiny_backbone, memory=1.5)
    with pytest.raises(ValueError, match="model_type"):
        AirlamBeamsConfig({"hidden_size": 3})


def test_shipped_network():
    """It loads, states its limits, and on drops of its own finds the best beam more often than its start."""
    folder = find_checkpoint("airlam-beams")
    card = (folder / "README.md").read_text()
    assert all(f"## {title}" in card for title in ("Training", "Scores", "Limits"))
    made, links = load_beams(folder), load_channel("umi_tracks_28ghz").sample(128, 9, seed=123)
    codebook, g = dft_codebook(links.port_shape), torch.Generator().manual_seed(0)
    power, measured = measure_beams(links.h[:, :8], codebook, 1.0, g), sweep_schedule(64, 16, 8, g)
    future = beam_power(links.h[:, 8], codebook)
    rates = []
    for scores in (made.scores(power, measured, port_shape=links.port_shape), made.start.scores(power, measured)):
        rates.append((1 + future.gather(-1, scores[:, 0].argmax(-1, keepdim=True))).log2().mean())
    assert float(rates[0]) > float(rates[1])
