"""Split training: the same gradients as the whole model's, bytes as the formula says."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from airlam.edge.federated import run_rounds
from airlam.edge.federated.learning.learner import Learner
from airlam.edge.federated.learning.optimisers import learning_rate, step_arrays
from airlam.edge.federated.learning.sites import Places
from airlam.edge.federated.learning.split import SplitLearner, activation_bytes, gradients
from airlam.errors import RecipeError
from airlam.models import AirlamConfig, AirlamModel
from airlam.models.split import back, check_split, front, num_layers, on_device
from airlam.tasks.objectives import predicted_error


@pytest.fixture(scope="module")
def model() -> AirlamModel:
    torch.manual_seed(0)
    return AirlamModel(AirlamConfig(num_tokens=8, num_groups=0)).eval()


@pytest.mark.parametrize("layers", range(5))
def test_the_parts_are_the_whole(model, layers):
    features = torch.randn(3, 8, model.num_features)
    whole = model.backbone(inputs_embeds=model.embedding(features)).last_hidden_state
    assert torch.equal(back(model, front(model, features, layers), layers), whole)


def test_every_parameter_lies_on_one_side(model):
    assert num_layers(model) == 4
    count = [sum(on_device(name, n) for name, _ in model.named_parameters()) for n in range(5)]
    assert count == sorted(count) and count[0] < count[1]
    assert on_device("head.weight", 0) and not on_device("backbone.LayerNorm.weight", 4)
    assert on_device("backbone.embeddings.position_embeddings.weight", 1)
    with pytest.raises(ValueError, match="between 0 and 4"):
        check_split(model, 5)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_gradients_are_those_of_the_whole_model(federation, layers):
    f = federation(mode="split", split_layers=layers)
    learner = Learner(f, f.lora_rank)
    start = learner.start()
    rng = np.random.default_rng(0)
    for name in start:  # B not zero, so that A has a gradient as well
        start[name] = start[name] + 0.02 * rng.standard_normal(start[name].shape).astype(np.float32)
    learner.load(start, 1)
    split, site = SplitLearner(f, learner, layers), Places().site(f, 0)

    target = split.target(site, 1, 0)
    predicted_error(split.base, target).log().mean().backward()
    whole = gradients(split.device | split.server)

    target = split.target(site, 1, 0)
    x = split.front(target)
    received = x.detach().requires_grad_()
    hidden = split.back(received)
    sent = hidden.detach().requires_grad_()
    split.loss(target, sent).backward()
    hidden.backward(sent.grad)
    x.backward(received.grad)
    parts = gradients(split.device | split.server)
    assert max(np.abs(g).max() for g in whole.values()) > 1e-3
    assert max(np.abs(whole[name] - parts[name]).max() for name in whole) < 1e-5


def test_one_round_of_one_site_is_training_the_whole_model(federation):
    """Device and server each take AdamW steps on their own adapters: together, AdamW on all (clipped by side)."""
    one = {"street": {"channel": "umi_nlos", "speed_kmh": [3, 60]}}
    f = federation(sites=one, mode="split", aggregation="ffa", rounds=1, local_steps=3)
    state = run_rounds(f)
    learner = Learner(f, f.lora_rank)
    arrays = learner.start()
    learner.load(arrays, 1)
    split, site = SplitLearner(f, learner, 0), Places().site(f, 0)
    sides = [(split.device, {}), (split.server, {})]
    for step in range(3):
        predicted_error(split.base, split.target(site, 1, step)).log().mean().backward()
        for parameters, moments in sides:
            grads = gradients(parameters)
            step_arrays(arrays, grads, moments, learning_rate(f, 1), "adamw")
        with torch.no_grad():
            for name, p in (split.device | split.server).items():
                p.copy_(torch.from_numpy(arrays[name]))
    moved = max(np.abs(v).max() for v in arrays.values())
    assert moved > 1e-3
    # gradients agree to single precision, which AdamW's normalisation amplifies where they are tiny
    off = [np.abs(arrays[name] - state.arrays[name]) for name in arrays]
    assert np.mean(np.concatenate([o.ravel() for o in off])) < 1e-4 * moved


def test_adamw_on_arrays_is_torchs():
    rng = np.random.default_rng(0)
    weights = {"a": rng.standard_normal((3, 4)).astype(np.float32)}
    p = torch.nn.Parameter(torch.from_numpy(weights["a"].copy()))
    optimizer, state = torch.optim.AdamW([p], lr=0.01, betas=(0.9, 0.98), weight_decay=0.0), {}
    for _ in range(4):
        grad = 0.1 * rng.standard_normal((3, 4)).astype(np.float32)
        p.grad = torch.from_numpy(grad.copy())
        torch.nn.utils.clip_grad_norm_([p], 1.0)
        optimizer.step()
        step_arrays(weights, {"a": grad}, state, 0.01, "adamw")
    assert np.allclose(weights["a"], p.detach().numpy(), atol=1e-7)


def test_bytes_follow_the_formula(federation):
    f = federation(mode="split", aggregation="ffa", rounds=1, local_steps=3)
    records = []
    run_rounds(f, watch=records.append)
    site = Places().site(f, 0)
    learner = Learner(f, f.lora_rank)
    split = SplitLearner(f, learner, 0)
    tokens = split.target(site, 1, 0).tokens.features.shape[1]
    crossing = activation_bytes(4, tokens, 128, 3)
    mine = sum(4 * value.size + 128 for name, value in learner.start().items() if on_device(name[2:], 0))
    headers = 128 * 4 * 3 + (128 + 4)  # of the four tensors of each step; and the word "ready"
    assert records[1].down_bytes[0] + records[1].up_bytes[0] == crossing + 2 * mine + headers


def test_split_and_whole_devices_in_one_round(federation):
    sites = copy.deepcopy(federation().config["sites"])
    sites["city"] |= {"mode": "local"}
    sites["factory"] |= {"split_layers": 2, "lora_rank": 2}
    f = federation(sites=sites, mode="split", aggregation="svd", rounds=2, local_steps=3)
    records = []
    state = run_rounds(f, watch=records.append)
    assert records[2].mean_figure < records[0].mean_figure and not records[1].rejected
    assert records[1].up_bytes[1] < records[1].up_bytes[0]  # adapters weigh less than activations
    assert records[1].server_seconds > 0
    assert all(np.isfinite(v).all() for v in state.arrays.values())


def test_layers_that_only_some_devices_leave_to_the_server(federation):
    """One SGD step: the server's layers move by the mean over the devices that leave them to it."""
    places = {"a": {"channel": "umi_nlos"}, "b": {"channel": "uma_nlos", "split_layers": 2}}
    run = dict(mode="split", aggregation="ffa", rounds=1, local_steps=1, optimizer="sgd", learning_rate=0.1)
    both, alone = federation(sites=places, **run), federation(sites={"a": places["a"]}, **run)
    start = Learner(both, both.largest_rank).start()
    together, single = run_rounds(both).arrays, run_rounds(alone).arrays
    first = [name for name in start if "layer.0." in name]
    other = run_rounds(federation(sites={"b": {**places["b"], "seed": 2000}}, **run)).arrays
    assert first
    for name in first:  # held by the server for a, by the device for b: FedAvg takes the mean of the two
        wanted = (single[name] + other[name]) / 2 - start[name]
        # single precision, batches of another size
        assert np.abs(together[name] - start[name] - wanted).max() < 1e-5 + 1e-3 * np.abs(wanted).max()


def test_a_lost_device_leaves_the_others_training(federation):
    f = federation(mode="split", aggregation="ffa", rounds=3, dropout=0.4)
    records = []
    state = run_rounds(f, watch=records.append)
    assert any(r.lost for r in records) and len(records) == 4
    assert all(np.isfinite(v).all() for v in state.arrays.values())


def test_split_of_a_model_with_sensors_is_refused(federation):
    torch.manual_seed(0)
    sensed = AirlamModel(AirlamConfig(num_tokens=8, num_groups=0, context=["velocity"]))
    with pytest.raises(ValueError, match="other sensors"):
        check_split(sensed, 0)
    with pytest.raises(RecipeError, match="adapters"):
        federation(mode="split", lora_rank=None)
