"""Start values made module by module: those of a model that is made at once, in distribution, and whole."""

from __future__ import annotations

import pytest
import torch

from airlam.models import AirlamConfig, AirlamModel
from airlam.models.fresh import empty_model, fresh_tracker, fresh_values

BACKBONES = {
    "own": {
        "model_type": "roberta-prelayernorm",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 2,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 1,
    },
    "bert": {
        "model_type": "bert",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 8,
    },
    "llama": {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "vocab_size": 2,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 1,
    },
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "vocab_size": 2,
        "bos_token_id": 0,
        "eos_token_id": 1,
    },
}


def model_of(name: str) -> AirlamModel:
    torch.manual_seed(0)
    return AirlamModel(AirlamConfig(num_tokens=12, num_groups=3, backbone=dict(BACKBONES[name])))


def fresh(name: str, seed: int = 1) -> dict[str, torch.Tensor]:
    model = empty_model(AirlamConfig(num_tokens=12, num_groups=3, backbone=dict(BACKBONES[name])))
    found = {}
    for module, _ in model.named_modules():
        found |= fresh_values(model, module, seed)
    return found


@pytest.mark.parametrize("name", BACKBONES)
def test_same_names_and_distribution_as_a_model_made_at_once(name):
    whole, pieces = model_of(name), fresh(name)
    wanted = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
    assert pieces.keys() == wanted.keys()
    for key, whole_value in wanted.items():
        value = whole_value.detach()
        found = pieces[key]
        assert found.shape == value.shape and found.dtype == value.dtype
        assert bool(found.isfinite().all()), key
        if not value.is_floating_point() or value.float().std() == 0 or key in dict(whole.named_buffers()):
            torch.testing.assert_close(found, value, msg=key)  # ones, zeros, positions, frequencies
        elif value.numel() >= 1024:
            assert float(found.std()) == pytest.approx(float(value.std()), rel=0.1), key
            assert abs(float(found.mean())) < 5 * float(value.std()) / value.numel() ** 0.5, key
            assert not torch.equal(found, value), key


@pytest.mark.parametrize("name", BACKBONES)
def test_values_depend_on_name_and_seed_only(name):
    first, again, other = fresh(name), fresh(name), fresh(name, seed=2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [key for key, value in first.items() if value.dim() > 1 and bool(value.any()) and value.is_floating_point()]
    assert drawn and all(not torch.equal(first[key], other[key]) for key in drawn)
    same_shape = [k for k in drawn if first[k].shape == (64, 64)]
    assert all(not torch.equal(first[a], first[b]) for a in same_shape for b in same_shape if a != b)


def test_making_values_leaves_the_caller_s_random_numbers_alone():
    model = empty_model(AirlamConfig(num_tokens=12, num_groups=3, backbone=dict(BACKBONES["own"]), phase_tracker=True))
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    fresh_values(model, "embedding.0", 1)
    tracker = fresh_tracker(model, 1)
    assert torch.equal(torch.rand(3), wanted)
    assert all(
        torch.equal(a, b) for a, b in zip(tracker.parameters(), fresh_tracker(model, 1).parameters(), strict=True)
    )
