"""The contract of every channel model: :class:`airlam.channels.ChannelModel`."""

from __future__ import annotations

import pickle

import pytest
import torch

from airlam.channels.channel_model import ChannelModel
from airlam.csi import mean_power


class ChannelContract:
    """Tests that every channel model must pass. Subclass it and override :meth:`make`.

    Attributes:
        num_links: links to draw in these tests; rounded up to whole drops.
    """

    num_links = 4

    def make(self) -> ChannelModel:
        """The channel model under test."""
        raise NotImplementedError("override make() to return the channel model under test")

    @pytest.fixture
    def channel(self) -> ChannelModel:
        return self.make()

    def count(self, channel: ChannelModel, factor: int = 1) -> int:
        per_drop = channel.links_per_drop
        return -(-self.num_links // per_drop) * per_drop * factor

    def test_shape_and_truth(self, channel):
        count = self.count(channel)
        links = channel.sample(count, 3, seed=1)
        assert links.h.shape == (count, 3, channel.num_subcarriers, channel.num_rx_ant, channel.num_tx_ant)
        assert links.h.dtype == torch.complex64 and torch.isfinite(torch.view_as_real(links.h)).all()
        assert len(links.drop) == len(links.gain_db) == count

    def test_links_have_unit_mean_power(self, channel):
        h = channel.sample(self.count(channel), 3, seed=1).h
        # 1e-3: single precision; a link may also be empty, in outage
        power = mean_power(h)
        assert bool((((power - 1).abs() < 1e-3) | (power == 0)).all())

    def test_the_seed_decides_every_bit(self, channel):
        count = self.count(channel)
        first, again, other = (channel.sample(count, 3, seed=seed).h for seed in (1, 1, 2))
        assert torch.equal(first, again) and not torch.equal(first, other)

    def test_fewer_links_and_slots_are_a_beginning(self, channel):
        count = self.count(channel)
        long = channel.sample(2 * count, 4, seed=1).h
        short = channel.sample(count, 2, seed=1).h
        # normalisation is over the slots drawn, so a longer window scales the same channel: compare directions
        a, b = long[:count, :2].flatten(1), short.flatten(1)
        norm = torch.linalg.vector_norm
        cosine = (a.conj() * b).sum(1).abs() / (norm(a, dim=1) * norm(b, dim=1)).clamp_min(1e-30)
        assert bool(((cosine - 1).abs() < 1e-3).all())

    def test_it_survives_a_trip_to_another_process(self, channel):
        count = self.count(channel)
        copy = pickle.loads(pickle.dumps(channel))
        assert torch.equal(copy.sample(count, 2, seed=3).h, channel.sample(count, 2, seed=3).h)

    @pytest.mark.parametrize("bad", [0, -1])
    def test_bad_counts_are_refused(self, channel, bad):
        with pytest.raises(ValueError, match="num_links"):
            channel.sample(bad, 2, seed=0)
        with pytest.raises(ValueError, match="num_slots"):
            channel.sample(self.count(channel), bad, seed=0)
