"""Same seed, same bits; more links begin with the same links; nobody else's random numbers change."""

from __future__ import annotations

import pickle

import pytest
import torch

from airlam.channels import load_channel

KINDS = {
    "umi": {"scenario": "umi", "state": "random"},
    "umi_drops": {"scenario": "umi", "state": "nlos", "links_per_drop": 4},
    "inf": {"scenario": "inf", "state": "random"},
    "cdl_d": {"scenario": "cdl_d", "delay_spread": [30e-9, 300e-9]},
    "tdl_a": {"scenario": "tdl_a"},
    "stock": {"scenario": "rma", "state": "random", "fast": "stock"},
}
SMALL = {"num_subcarriers": 5, "bs_panel": {"rows": 2, "columns": 2}, "chunk": 16}
FIELDS = ("h", "gain_db", "path_loss_db", "speed", "los", "indoor", "delay_spread", "position", "velocity", "drop")


def assert_same(a, b):
    for name in FIELDS:
        assert torch.equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_bits(kind):
    model = load_channel({**SMALL, **KINDS[kind]})
    first = model.sample(20, 3, seed=7)
    model.sample(8, 2, seed=1)  # what was sampled before does not matter
    assert_same(first, model.sample(20, 3, seed=7))
    assert_same(first, load_channel({**SMALL, **KINDS[kind]}).sample(20, 3, seed=7))
    assert_same(first, pickle.loads(pickle.dumps(model)).sample(20, 3, seed=7))
    assert not torch.equal(first.h, model.sample(20, 3, seed=8).h)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_links", [4, 16, 20, 36])
def test_fewer_links_are_a_prefix(kind, num_links):
    model = load_channel({**SMALL, **KINDS[kind]})
    assert_same(model.sample(num_links, 3, seed=7), model.sample(40, 3, seed=7)[:num_links])


def test_prefix_holds_at_the_headline_size_too():
    # there CSI is summed two links at a time, so an odd number cuts a block
    model = load_channel("umi_nlos")
    assert_same(model.sample(5, 20, seed=3), model.sample(40, 20, seed=3)[:5])


@pytest.mark.parametrize("kind", ["umi", "cdl_d"])
def test_a_longer_window_continues_the_shorter_one(kind):
    model = load_channel({**SMALL, **KINDS[kind]})
    short, long = (undo_scaling(model.sample(8, n, seed=7)) for n in (4, 9))
    torch.testing.assert_close(long[:, :4], short, rtol=1e-4, atol=1e-6 * float(short.abs().max()))


def undo_scaling(batch):
    return batch.h * (10 ** (batch.gain_db / 20)).reshape(-1, 1, 1, 1, 1)


def test_random_numbers_of_others_are_untouched():
    from sionna.phy import config

    torch.manual_seed(3)
    config.seed = 5
    state, theirs = torch.get_rng_state(), config.torch_rng("cpu").get_state()
    for kind in KINDS.values():
        load_channel({**SMALL, **kind}).sample(4, 2, seed=0)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(theirs, config.torch_rng("cpu").get_state())
    assert config.seed == 5


def test_the_fixed_speed_equals_the_drawn_one():
    """TDL draws speeds inside Sionna's stream: fixing a link's speed at what was reported gives that link again."""
    recipe = {**SMALL, "scenario": "tdl_c"}
    drawn = load_channel({**recipe, "speed_kmh": [3, 100]}).sample(4, 6, seed=2)
    for link in range(4):
        fixed = load_channel({**recipe, "speed_kmh": float(drawn.speed[link]) * 3.6}).sample(4, 6, seed=2)
        torch.testing.assert_close(fixed.h[link], drawn.h[link], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ((0, 4, 0), ValueError, "num_links is 0"),
        ((4, 0, 0), ValueError, "num_slots is 0"),
        ((4, 4, -1), ValueError, "seed is -1"),
        ((4.0, 4, 0), TypeError, "num_links must be an int"),
        ((4, "4", 0), TypeError, "num_slots must be an int"),
        ((4, 4, None), TypeError, "seed must be an int"),
        ((6, 4, 0), ValueError, "ask for 4 or 8"),
    ],
)
def test_bad_requests(arguments, error, text):
    num_links, num_slots, seed = arguments
    with pytest.raises(error, match=text):
        load_channel({**SMALL, **KINDS["umi_drops"]}).sample(num_links, num_slots, seed=seed)


def test_the_number_of_threads_changes_no_bit():
    """Workers run one thread each; what they make must equal what one process with all cores makes."""
    threads = torch.get_num_threads()
    try:
        for name in ("umi_los", "cdl_d"):
            batches = []
            for count in (1, 2):
                torch.set_num_threads(count)
                batches.append(load_channel(name).sample(10, 20, seed=4))
            assert_same(*batches)
    finally:
        torch.set_num_threads(threads)
