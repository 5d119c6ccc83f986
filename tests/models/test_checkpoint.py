"""Checkpoints: identity, safety, clear errors; adapters."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from airlam.csi import measure
from airlam.errors import CheckpointError
from airlam.loading import load_predictor
from airlam.metrics import nmse
from airlam.models import AirlamConfig, AirlamModel, add_lora, load_checkpoint, load_lora, save_checkpoint, save_lora
from airlam.recipes import find_checkpoint


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model = AirlamModel(AirlamConfig(num_tokens=8, num_groups=0))
    torch.nn.init.normal_(model.head.weight, std=0.1)
    return save_checkpoint(model, tmp_path / "model")


@pytest.fixture
def h():
    return torch.randn(2, 8, 6, 1, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def test_save_and_load_is_identity(folder, h):
    model = load_checkpoint(folder)
    again = load_checkpoint(save_checkpoint(model, folder.parent / "again"))
    assert torch.equal(model(h, 3), again(h, 3))
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_saving_keeps_the_model_card(folder):
    (folder / "README.md").write_text("card")
    save_checkpoint(load_checkpoint(folder), folder)
    assert (folder / "README.md").read_text() == "card"


def test_missing_folder_names_the_nearest(tmp_path):
    with pytest.raises(CheckpointError, match="airlam list"):
        load_checkpoint(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="did you mean 'hold'"):
        load_predictor("holt")


def test_cut_off_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="corrupt or cut short"):
        load_checkpoint(folder)


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled weights"):
        load_checkpoint(folder)


def test_pickled_ckpt_from_a_stranger_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return (print, ("this must never run",))

    torch.save({"state_dict": {}, "hyper_parameters": Payload()}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="not safe to load"):
        load_predictor(tmp_path / "x.ckpt")


def test_foreign_config(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(CheckpointError, match="'bert', not 'airlam'"):
        load_checkpoint(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        load_checkpoint(folder)


def flip(path, where):
    """One bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1
    path.write_bytes(data)


def test_one_flipped_bit_is_noticed(folder, tmp_path):
    flip(folder / "model.safetensors", 0.7)
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged: its SHA-256"):
        load_checkpoint(folder)
    run = tmp_path / "run.ckpt"
    torch.save({"state_dict": {"x": torch.randn(5000)}, "hyper_parameters": {}}, run)
    flip(run, 0.5)
    with pytest.raises(CheckpointError, match=r"run.ckpt is damaged: .* does not match its checksum"):
        load_predictor(run)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"thesis", "not a whole ZIP"), ([1, 2], "no Lightning checkpoint"), ({"a": 1}, "no Lightning checkpoint")],
)
def test_files_that_are_no_checkpoints(content, message, tmp_path):
    run = tmp_path / "x.ckpt"
    run.write_bytes(content) if isinstance(content, bytes) else torch.save(content, run)
    with pytest.raises(CheckpointError, match=message):
        load_predictor(run)
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        load_predictor(tmp_path / "other.ckpt")


def test_bad_values_in_the_config_are_named(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_tokens": -5}))
    with pytest.raises(CheckpointError, match="config.json: num_tokens must be an integer of at least 1, got -5"):
        load_checkpoint(folder)


def test_weights_that_do_not_belong(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["weights_sha256"]  # as transformers' own save_pretrained leaves it
    (folder / "config.json").write_text(json.dumps(config))
    state = load_file(folder / "model.safetensors")
    del state["head.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="head.weight"):
        load_checkpoint(folder)


def test_adapters_start_silent_and_survive_saving_and_merging(folder, h):
    plain = load_checkpoint(folder)
    expected = plain(h, 3)
    adapted = add_lora(plain, rank=2)
    assert torch.equal(adapted(h, 3), expected)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    moved = adapted(h, 3)
    assert not torch.allclose(moved, expected)
    save_lora(adapted, folder.parent / "adapters")
    assert torch.equal(load_lora(load_checkpoint(folder), folder.parent / "adapters")(h, 3), moved)
    for load in (load_checkpoint, find_checkpoint):
        with pytest.raises(CheckpointError, match="merge them into a checkpoint"):
            load(folder.parent / "adapters")
    # merging adds B A to W once instead of to each product: rounding only
    assert torch.allclose(adapted.merge_and_unload()(h, 3), moved, atol=1e-4)


def test_rank_must_be_positive(folder):
    with pytest.raises(ValueError, match="rank"):
        add_lora(load_checkpoint(folder), rank=0)


def test_weights_stored_in_half_precision_compute_in_single(folder):
    """Rounded once to eight bits of mantissa, then loaded in single precision."""
    model = load_checkpoint(folder)
    small = save_checkpoint(model, folder.parent / "half", dtype=torch.bfloat16)
    assert {value.dtype for value in load_file(small / "model.safetensors").values()} == {torch.bfloat16}
    loaded = load_checkpoint(small)
    for name, value in model.named_parameters():
        assert torch.equal(loaded.get_parameter(name), value.bfloat16().float())


@pytest.mark.parametrize("name", ["airlam-tiny", "airlam-small", "airlam-paths"])
def test_shipped_checkpoints(name):
    """They load, hold together (SHA-256), state their limits, stay small, and beat "hold" on two rays."""
    folder = find_checkpoint(name)
    card = (folder / "README.md").read_text()
    assert all(f"## {title}" in card for title in ("Training", "Scores", "Limits"))
    assert (folder / "model.safetensors").stat().st_size < 25e6
    time, place = torch.arange(20.0), torch.arange(48.0)[:, None, None]
    h = sum(
        torch.exp(1j * (a * time[:, None, None, None] + b * place + c * torch.arange(32.0)))
        for a, b, c in ((0.1, 0.05, 0.3), (-0.15, 0.2, -1.0))
    )[None]
    past = measure(h[:, :16], 20.0, torch.Generator().manual_seed(0))
    predictor = load_predictor(name)
    future, variance = predictor.predict_with_variance(past, 4, port_shape=(2, 4, 4))
    assert float(nmse(future, h[:, 16:])) < 0.1 * float(nmse(past[:, -1:].expand_as(future), h[:, 16:]))
    assert bool((variance > 0).all())


@pytest.mark.parametrize("name", ["airlam-tiny", "airlam-precoder", "airlam-beams", "airlam-pilots"])
def test_what_gets_no_gradient_is_frozen(name):
    """Word embeddings, pooler, tracker: as loaded and as made, so that distributed training waits for nothing."""
    from airlam.models.checkpoint import load_shipped

    loaded = load_shipped(name)
    for model in (loaded, type(loaded)(loaded.config)):
        frozen = {key for key, value in model.named_parameters() if not value.requires_grad}
        assert frozen == {
            key
            for key, _ in model.named_parameters()
            if "word_emb" in key or "pooler" in key or key.startswith("tracker.")
        }


def test_every_trainable_parameter_of_a_forecast_gets_a_gradient():
    from airlam.tasks.objectives import forecast_error

    model = load_checkpoint(find_checkpoint("airlam-tiny")).train()
    h = torch.randn(2, 12, 6, 1, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    forecast_error(model, h[:, :8], h[:, 8:]).nmse.log().mean().backward()
    missing = [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert not missing
