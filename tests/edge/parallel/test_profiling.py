"""Profiles: counted against torch's own counts, kept as JSON, measured."""

from __future__ import annotations

import pytest

from airlam.edge.parallel.cost_model.measuring import Links, measure_profile, peak_bytes
from airlam.edge.parallel.cost_model.profiling import PARTS, ModelProfile, count_profile
from airlam.errors import StoreError
from airlam.models import AirlamConfig, AirlamModel

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 2,
    "pad_token_id": 1,
}


@pytest.mark.parametrize("backbone", [None, LLAMA], ids=["own", "llama"])
def test_counted_operations_and_weights_are_those_of_the_model(backbone):
    config = AirlamConfig(num_tokens=24, num_groups=8, backbone=backbone, error_variance=True)
    counted = count_profile(config)
    measured = measure_profile(config, links=4, repeats=1, shape=Links(subcarriers=24, ports=(2, 2, 2)))
    assert measured.measured and measured.tokens == counted.tokens
    model = AirlamModel(config)
    assert counted.parameters == measured.parameters == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counted.frozen == sum(p.numel() for p in model.parameters() if not p.requires_grad)
    for name in ("embedding", "layer", "head"):
        assert counted.parts[name].forward_flops == pytest.approx(measured.parts[name].forward_flops, rel=0.02)
    assert all(measured.parts[name].forward_link > 0 for name in PARTS)
    assert measured.parts["layer"].backward_flops == pytest.approx(counted.parts["layer"].backward_flops, rel=0.02)
    # activations, which the counted profile takes from the shapes
    assert counted.parts["layer"].activation_bytes == pytest.approx(measured.parts["layer"].activation_bytes, rel=0.6)


def test_a_profile_survives_its_file(tmp_path):
    profile = count_profile(AirlamConfig(loops=2))
    assert ModelProfile.load(profile.save(tmp_path / "profile.json")) == profile
    (tmp_path / "other.json").write_text('{"parts": 3}')
    with pytest.raises(StoreError, match="no profile"):
        ModelProfile.load(tmp_path / "other.json")


def test_loops_multiply_work_not_weights():
    once, twice = count_profile(AirlamConfig()), count_profile(AirlamConfig(loops=2))
    assert twice.parameters == once.parameters and twice.depth == 2 * once.depth
    assert once.flops < twice.flops < 2 * once.flops


def test_a_device_takes_the_hosts_time_by_its_speed():
    profile = count_profile(AirlamConfig())
    whole, half = profile.this_host(), profile.this_host(0.5)
    assert profile.seconds("layer", "forward", 3, half) == pytest.approx(
        2 * profile.seconds("layer", "forward", 3, whole)
    )
    assert profile.seconds("layer", "forward", 1, whole) == pytest.approx(profile.parts["layer"].forward_link)


def test_peak_counts_what_is_alive_at_once():
    import torch

    x = torch.ones(1000)
    assert peak_bytes(lambda: [x + n for n in range(3)]) == 12000
    assert peak_bytes(lambda: (x + 1).sum()) <= 4004
