"""Adapters on two ranks against one model trained by hand, which computes everything anew in every step."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import airlam
from airlam.edge.parallel import ParallelTraining
from airlam.edge.parallel.adapters.recipe import Adapter
from airlam.edge.parallel.adapters.training import START
from airlam.edge.parallel.recipe import Shares
from airlam.models import AirlamConfig, AirlamModel, add_lora, add_parallel_adapter, load_checkpoint, save_checkpoint
from airlam.seeds import noise_seed
from airlam.tasks.objectives import forecast_target, predicted_error

LINKS, BATCHES, EPOCHS, TOKENS, WIDTH, LAYERS, RATE = 8, 3, 2, 12, 16, 4, 0.1
STEPS = BATCHES * EPOCHS


def links(seed: int) -> dict:
    """Histories of a few moving paths, and what follows."""
    draw = torch.Generator().manual_seed(seed)
    doppler = 0.3 * (torch.rand(LINKS, 4, 1, generator=draw) - 0.5)
    paths = torch.exp(2j * math.pi * doppler * torch.arange(12))
    steering = torch.randn(LINKS, 4, 4 * 4, dtype=torch.complex64, generator=draw)
    h = torch.einsum("lps,lpn->lsn", paths, steering).unflatten(-1, (4, 1, 4))
    noise = 0.1 * torch.randn(h.shape, dtype=h.dtype, generator=draw)
    return {"h_past": (h + noise)[:, :10], "h_future": h[:, 10:], "port_shape": [1, 2, 2]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """folder, the run of each case, and what both ranks saw of it."""
    folder = tmp_path_factory.mktemp("adapters")
    torch.manual_seed(0)
    backbone = {
        "model_type": "roberta-prelayernorm",
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "vocab_size": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    base = AirlamModel(
        AirlamConfig(backbone=backbone, num_tokens=TOKENS, num_groups=0, max_history=16, doppler_grid=33)
    )
    torch.nn.init.normal_(base.head.weight, std=0.1)
    save_checkpoint(base, folder / "base")
    torch.save([links(seed) for seed in range(BATCHES)], folder / "batches.pt")
    task = {"class_path": "airlam.tasks.ChannelPrediction", "init_args": {"learning_rate": RATE}}
    plain = ParallelTraining(
        task,
        {"channel": "uma_nlos", "num_train": LINKS * BATCHES, "batch_size": LINKS},
        checkpoint=str(folder / "base"),
        steps=STEPS,
        optimiser="sgd",
        micro_batches=2,
        adapter=Adapter("parallel", rank=4),
    )
    shares = Shares(data=[3, 1])
    adamw = replace(plain, optimiser="adamw", shares=shares)
    runs = {
        "shares": replace(plain, shares=shares),
        "pipeline": replace(plain, mode="pipeline", shares=Shares(pipeline=[1, 3])),
        "lora": replace(plain, adapter=replace(plain.adapter, kind="lora", rank=2)),
        "whole": adamw,
        "stopped": adamw,
        "resumed": adamw,
        "served": replace(adamw, adapter=replace(plain.adapter, cache_folder=str(folder / "whole" / "cache"))),
    }
    cases = [
        {"name": name, "run": run.to_dict(), "folder": str(folder / name), "steps": STEPS} for name, run in runs.items()
    ]
    by_name = {case["name"]: case for case in cases}
    by_name["stopped"] |= {"steps": 4, "save": 4}
    state = folder / "stopped" / "states" / "step_00000004"
    by_name["resumed"] |= {"steps": STEPS - 4, "folder": str(folder / "stopped"), "state": str(state)}
    (folder / "spec.json").write_text(
        json.dumps({"batches": str(folder / "batches.pt"), "out": str(folder), "cases": cases})
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    here = Path(__file__).parent / "ranks.py"
    done = subprocess.run([*command, str(here), str(folder / "spec.json")], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    seen = {name: [torch.load(folder / f"{name}.{rank}.pt", weights_only=True) for rank in (0, 1)] for name in runs}
    return folder, runs, seen


def by_hand(folder, run, places):
    """One model, trained on whole batches, nothing kept."""
    base = load_checkpoint(folder / "base")
    torch.manual_seed(noise_seed(run.seed, START))
    kind = run.adapter.kind
    model = add_lora(base, run.adapter.rank) if kind == "lora" else add_parallel_adapter(base, run.adapter.rank)
    if kind == "lora":
        for name, value in model.named_parameters():
            if "pooler" in name:
                value.requires_grad_(False)
    model.train()
    batches = torch.load(folder / "batches.pt", weights_only=True)
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=RATE)
    losses = []
    for place in places:
        batch = batches[place]
        target = forecast_target(model, batch["h_past"], batch["h_future"], batch["port_shape"])
        loss = torch.log(predicted_error(model, target)).mean()
        loss.backward()
        if kind == "parallel":
            assert all(value.grad is None for value in base.parameters())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return model, losses


@pytest.mark.parametrize("name", ["shares", "pipeline", "lora"])
def test_two_ranks_with_a_cache_are_one_process_without(trained, name):
    folder, runs, seen = trained
    ranks = seen[name]
    model, losses = by_hand(folder, runs[name], ranks[0]["places"])
    for rank in ranks:
        assert rank["places"][:BATCHES] == [0, 1, 2] and sorted(rank["places"][BATCHES:]) == [0, 1, 2]
        assert [record["loss"] for record in rank["records"]] == pytest.approx(losses, rel=1e-5)
        for key, value in rank["weights"].items():
            torch.testing.assert_close(value, model.get_parameter(key), rtol=1e-4, atol=1e-5)
    assert losses[0] != losses[BATCHES]


def test_what_is_written_predicts_as_what_was_trained(trained):
    folder, runs, seen = trained
    h = torch.load(folder / "batches.pt", weights_only=True)[0]["h_past"]
    for name in ("shares", "lora"):
        model, _ = by_hand(folder, runs[name], seen[name][0]["places"])
        predictor = airlam.load_predictor(folder / name / "checkpoint")
        with torch.no_grad():
            want = model.eval()(h, 3, port_shape=(1, 2, 2))
        torch.testing.assert_close(predictor.predict(h, 3, port_shape=(1, 2, 2)), want, rtol=1e-3, atol=1e-4)


def test_the_backbone_runs_in_the_first_epoch_only(trained):
    _, _, seen = trained
    for name, layers in (("shares", (LAYERS, LAYERS)), ("pipeline", (1, 3))):
        for rank, count in zip(seen[name], layers, strict=True):
            micro_batches = 2 if name == "pipeline" else 1
            assert len(rank["passes"]) == count * micro_batches * BATCHES and max(rank["passes"]) == BATCHES - 1
            assert rank["asked"] == [0, 1, 2] and not rank["held"]


def test_bytes_are_those_of_the_formulas(trained):
    _, _, seen = trained
    for name, ranks in seen.items():
        for index, rank in enumerate(ranks):
            trainable = 4 * sum(value.numel() for value in rank["weights"].values())
            for step, record in enumerate(rank["records"]):
                want = {"all_reduce": trainable, "control": 16}
                if name == "pipeline" and step < BATCHES:
                    one = TOKENS * WIDTH * 4
                    owned, states = (2, 6), (2, 3)
                    want["all_to_all"] = owned[1 - index] * states[index] * one
                    if index == 0:
                        want["send"] = LINKS * one
                assert record["bytes"] == want, (name, index, step)


def test_the_size_of_the_cache_is_that_of_the_hidden_states_and_little_more(trained):
    _, _, seen = trained
    states = LINKS * BATCHES * TOKENS * (LAYERS + 1) * WIDTH * 4
    assert states < seen["shares"][0]["cached"] < 2 * states


def test_a_resumed_run_ends_with_the_same_bits_and_asks_for_no_batch(trained):
    _, _, seen = trained
    for stopped, resumed, rank in zip(seen["stopped"], seen["resumed"], seen["whole"], strict=True):
        assert stopped["asked"] == [0, 1, 2] and resumed["asked"] == [] and resumed["passes"] == []
        assert stopped["places"] + resumed["places"] == rank["places"]
        assert all(torch.equal(resumed["weights"][key], value) for key, value in rank["weights"].items())


def test_a_second_run_uses_the_cache_of_the_first_to_the_bit(trained):
    _, _, seen = trained
    for served, rank in zip(seen["served"], seen["whole"], strict=True):
        assert served["asked"] == [] and served["passes"] == []
        assert all(torch.equal(served["weights"][key], value) for key, value in rank["weights"].items())
