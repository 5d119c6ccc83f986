"""Checkpoints, adapters and exported folders from strangers: any field changed, one line within a second."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from airlam.errors import CheckpointError
from airlam.loading import load_precoder, load_predictor
from airlam.models import (
    AirlamBeams,
    AirlamBeamsConfig,
    AirlamConfig,
    AirlamMap,
    AirlamMapConfig,
    AirlamModel,
    AirlamPilots,
    AirlamPilotsConfig,
    AirlamPosition,
    AirlamPositionConfig,
    AirlamPrecoder,
    AirlamPrecoderConfig,
    add_lora,
    load_beams,
    load_checkpoint,
    load_learned_precoder,
    load_lora,
    load_map,
    load_pilots,
    load_position,
    save_checkpoint,
    save_lora,
)
from airlam.models.comparators import build_comparator, load_comparator, save_comparator

BACKBONE = {
    "model_type": "roberta-prelayernorm",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 66,
    "vocab_size": 2,
    "pad_token_id": 1,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
NASTY = [
    None,
    True,
    False,
    0,
    1,
    -1,
    7,
    10**6,
    10**9,
    10**30,
    0.5,
    -0.5,
    1e300,
    math.nan,
    math.inf,
    "",
    "x",
    "x" * 5000,
    [],
    [1],
    ["x" * 5000],
    list(range(5000)),
    {},
    {"a": {"b": {"c": {"d": {"e": 1}}}}},
]
SECONDS, MEGABYTES = 2.0, 300  # a second of processor time each, and twice that on a slow machine


def tiny() -> AirlamModel:
    torch.manual_seed(0)
    fields = {"num_tokens": 8, "num_groups": 2, "max_history": 16, "phase_tracker": True, "error_variance": True}
    return AirlamModel(AirlamConfig(backbone=BACKBONE, **fields))


MADE = {
    "airlam": (tiny, load_checkpoint),
    "beams": (lambda: AirlamBeams(AirlamBeamsConfig(BACKBONE)), load_beams),
    "map": (lambda: AirlamMap(AirlamMapConfig(BACKBONE)), load_map),
    "position": (lambda: AirlamPosition(AirlamPositionConfig(BACKBONE)), load_position),
    "pilots": (lambda: AirlamPilots(AirlamPilotsConfig(BACKBONE)), load_pilots),
    "precoder": (lambda: AirlamPrecoder(AirlamPrecoderConfig(BACKBONE)), load_learned_precoder),
    "shared": (lambda: AirlamBeams.from_backbone(load_checkpoint("airlam-tiny"), 2), load_beams),
}
COMPARATORS = {
    "gru": {"width": 8, "num_subcarriers": 4},
    "cnn": {"width": 8, "num_blocks": 1},
    "wifo": {"width": 6, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 1},
    "transformer": {"width": 8, "num_layers": 1, "num_heads": 2, "num_subcarriers": 4},
    "llm4cp": {"width": 8, "num_layers": 1, "num_heads": 2, "num_subcarriers": 4},
    "minilm": {"pretrained": None, "width": 8, "num_layers": 1, "num_heads": 2, "num_subcarriers": 4},
    "refined": {"network": "cnn", "width": 8, "num_blocks": 1},
}


def peak() -> float:
    """Largest memory of this process so far [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def loads_or_is_refused(load, *, seconds: float = SECONDS) -> str | None:
    """The error's text, None where it loads; fails where it takes long, takes memory, or raises anything else."""
    memory = peak()
    for last in (False, True):
        start = time.process_time()
        try:
            load()
            text = None
        except CheckpointError as error:
            text = str(error)
            assert "\n" not in text and len(text) < 1500
        if (spent := time.process_time() - start) < seconds:
            break
        # what a file costs it costs every time; a collection of the test process's garbage, or a stall, comes once
        assert not last, f"takes {spent:.1f} s of processor time"
    assert peak() - memory < MEGABYTES
    return text


def changed(fields: dict):
    """``(path of keys, value, changed copy)``: each field in turn gets each nasty value, or is missing; a new field."""

    def walk(here: dict, keys: tuple[str, ...]):
        for key, value in here.items():
            for nasty in NASTY:
                yield (*keys, key), nasty, {**here, key: nasty}
            yield (*keys, key), "(missing)", {name: x for name, x in here.items() if name != key}
            if isinstance(value, dict):
                for path, nasty, inner in walk(value, (*keys, key)):
                    yield path, nasty, {**here, key: inner}
        yield (*keys, "new_field"), 1, {**here, "new_field": 1}

    yield from walk(fields, ())


def write_config(folder: Path, fields: dict, name: str = "config.json") -> None:
    (folder / name).write_text(json.dumps(fields))


@pytest.mark.slow
@pytest.mark.parametrize("kind", MADE)
def test_any_field_of_a_configuration(kind, tmp_path):
    make, load = MADE[kind]
    folder = save_checkpoint(make(), tmp_path / "made")
    fields = json.loads((folder / "config.json").read_text())
    load(folder)
    refused = 0
    for path, _value, change in changed(fields):
        write_config(folder, change)
        refused += (text := loads_or_is_refused(lambda: load(folder))) is not None
        assert path[-1] != "new_field" or "new_field" in (text or "")
    assert refused > 50


@pytest.mark.slow
@pytest.mark.parametrize("kind", COMPARATORS)
def test_any_field_of_a_comparator(kind, tmp_path):
    folder = save_comparator(build_comparator(kind, **COMPARATORS[kind]), tmp_path / "made")
    fields = json.loads((folder / "config.json").read_text())
    load_comparator(folder)
    for path, _value, change in changed(fields):
        write_config(folder, change)
        text = loads_or_is_refused(lambda: load_comparator(folder))
        assert path != ("comparator", "new_field") or "new_field" in (text or "")


@pytest.fixture(scope="module")
def adapters(tmp_path_factory):
    """A base, and adapters for it that are not silent."""
    root = tmp_path_factory.mktemp("adapters")
    base = save_checkpoint(tiny(), root / "base")
    adapted = add_lora(load_checkpoint(base), rank=2)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return base, save_lora(adapted, root / "adapters")


@pytest.mark.slow
def test_any_field_of_adapters(adapters, tmp_path):
    base, source = adapters
    folder = Path(shutil.copytree(source, tmp_path / "adapters"))
    model = load_checkpoint(base)
    names = sorted(model.state_dict())
    for _path, _value, change in changed(json.loads((source / "adapter_config.json").read_text())):
        write_config(folder, change, "adapter_config.json")
        loads_or_is_refused(lambda: load_lora(model, folder).unload())
        assert sorted(model.state_dict()) == names, "a refused adapter leaves the model as it was"


SAMPLES = [
    ("airlam", {"max_history": 10**9}, "max_history must be at most 512"),
    ("airlam", {"num_tokens": True}, "num_tokens must be an integer of at least 1, got True"),
    ("airlam", {"num_token": 8}, "AirlamConfig has no field 'num_token'; did you mean 'num_tokens'"),
    ("airlam", {"backbone": {"hidden_size": 16}}, "backbone has no model_type; name one"),
    ("airlam", {"backbone": BACKBONE | {"hidden_size": 10**6}}, r"would have [\d,]+ parameters \([\d,]+ GB\), but"),
    ("airlam", {"backbone": BACKBONE | {"hidden_size": 0}}, "hidden_size must be an integer of at least 1, got 0"),
    ("airlam", {"backbone": BACKBONE | {"hiden_size": 16}}, "did you mean 'hidden_size'"),
    ("airlam", {"backbone": BACKBONE | {"model_type": "x" * 5000}}, "a model type that transformers knows"),
    ("airlam", {"backbone": BACKBONE | {"hidden_size": 32}}, "has the shape"),
    ("airlam", {"backbone": "somebody/model"}, "the backbone of a checkpoint is a dict"),
    ("airlam", {"context": ["speedometer"]}, "must be one of velocity, position, cell"),
    ("airlam", {"start_ridge": math.nan}, "start_ridge must be a number (of at least|from) 0"),
    ("beams", {"history": 10**9}, "history must be at most 512"),
    ("precoder", {"utility": "sum_rat"}, "did you mean 'sum_rate'"),
    ("precoder", {"rounds": 10**9}, "rounds must be at most 64"),
    ("pilots", {"backbon": {}}, "did you mean 'backbone'"),
    ("position", {"stations": 10**9}, "stations must be at most 256"),
    ("position", {"station": 3}, "did you mean 'stations'"),
]


@pytest.mark.parametrize(("kind", "change", "words"), SAMPLES)
def test_fields_out_of_bounds_are_named(kind, change, words, tmp_path):
    make, load = MADE[kind]
    folder = save_checkpoint(make(), tmp_path / "made")
    write_config(folder, json.loads((folder / "config.json").read_text()) | change)
    with pytest.raises(CheckpointError, match=words):
        load(folder)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("gru", {"width": 10**6}, "width must be at most 65536"),
        ("gru", {"width": 65536, "num_layers": 200}, "parameters"),
        ("gru", {"widht": 16}, "did you mean 'width'"),
        ("cnn", {"history": True}, "history must be an integer"),
        ("wifo", {"patch": [4, 4]}, "three positive integers"),
        ("llm4cp", {"num_layers": 10**9}, "num_layers must be at most 256"),
    ],
)
def test_comparators_out_of_bounds(kind, change, words):
    with pytest.raises(ValueError, match=words):
        build_comparator(kind, **COMPARATORS[kind] | change)


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000, '{"model_type": NaN', "[1]", "null"])
def test_configurations_that_are_no_json(text, tmp_path):
    folder = save_checkpoint(tiny(), tmp_path / "made")
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="not valid JSON"):
        load_checkpoint(folder)


@pytest.mark.parametrize("kind", [*MADE, "comparator"])
def test_weights_of_nan(kind, tmp_path):
    if kind == "comparator":
        made = build_comparator("cnn", **COMPARATORS["cnn"])
        folder, load = save_comparator(made, tmp_path / "made"), load_comparator
    else:
        folder, load = save_checkpoint(MADE[kind][0](), tmp_path / "made"), MADE[kind][1]
    spoil(folder / "model.safetensors", lambda state: next(iter(state.values())).view(-1)[:1].fill_(math.nan))
    fields = json.loads((folder / "config.json").read_text())
    del fields["weights_sha256"]
    write_config(folder, fields)
    with pytest.raises(CheckpointError, match="holds NaN or infinity"):
        load(folder)


def spoil(path: Path, change) -> None:
    """Change a safetensors file in place."""
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


def rename(state):
    for name in sorted(state)[:2]:
        state[name.replace("lora_A", "lora_C")] = state.pop(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: [s.pop(name) for name in sorted(s)[: len(s) // 2]], r"lacks \d+ of \d+ tensors"),
        (rename, "that belong to nothing"),
        (lambda s: s.update(extra=torch.zeros(1)), "holds 1 that belong to nothing"),
        (lambda s: s.update({sorted(s)[0]: torch.zeros(3, 16)}), "has the shape"),
        (lambda s: s[sorted(s)[0]].view(-1)[:1].fill_(math.inf), "holds NaN or infinity"),
        (lambda s: s.clear(), "lacks"),
    ],
)
def test_adapters_with_other_tensors(change, words, adapters, tmp_path):
    base, source = adapters
    folder = Path(shutil.copytree(source, tmp_path / "adapters"))
    spoil(folder / "adapter_model.safetensors", change)
    model = load_checkpoint(base)
    with pytest.raises(CheckpointError, match=words):
        load_lora(model, folder)
    assert not any("lora" in name for name in model.state_dict()), "the model is as before"
    with pytest.raises(CheckpointError, match=words):
        load_predictor(folder)


def test_adapters_of_another_kind(adapters, tmp_path):
    base, source = adapters
    folder = Path(shutil.copytree(source, tmp_path / "adapters"))
    fields = json.loads((source / "adapter_config.json").read_text())
    for change, words in (
        ({"layer_replication": [[0, 1], [0, 1]]}, "only plain low-rank adapters"),
        ({"r": 10**9}, "r must be at most 1024"),
        ({"r": 4}, "has the shape"),
        ({"peft_type": "IA3"}, "only LORA adapters"),
        ({"lora_alpha": math.nan}, "lora_alpha must be a number"),
        ({"target_modules": "x" * 5000}, "5000 characters"),
    ):
        write_config(folder, fields | change, "adapter_config.json")
        with pytest.raises(CheckpointError, match=words):
            load_lora(load_checkpoint(base), folder)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_honour_the_umask(umask, mode, tmp_path):
    before = os.umask(umask)
    try:
        model = tiny()
        folders = [
            save_checkpoint(model, tmp_path / "base"),
            save_comparator(build_comparator("cnn", **COMPARATORS["cnn"]), tmp_path / "comparator"),
            save_lora(add_lora(load_checkpoint(tmp_path / "base"), rank=1), tmp_path / "adapters"),
        ]
    finally:
        os.umask(before)
    modes = {file.name: oct(file.stat().st_mode & 0o777) for folder in folders for file in folder.iterdir()}
    assert set(modes.values()) == {oct(mode)}, modes


def test_adapters_have_a_card_without_paths(adapters, tmp_path):
    _, folder = adapters
    card = (folder / "README.md").read_text()
    assert "rank 2" in card and "load_predictor" in card and str(folder.parent) not in card
    assert "More Information Needed" not in card
    (folder / "README.md").write_text("# My own card\n")
    save_lora(load_lora(load_checkpoint(folder.parent / "base"), folder), folder)
    assert (folder / "README.md").read_text() == "# My own card\n"


def test_adapters_equal_to_the_byte_in_every_process(adapters, tmp_path):
    _, folder = adapters
    described = json.loads((folder / "adapter_config.json").read_text())
    assert described["target_modules"] == sorted(described["target_modules"])


def lightning(path: Path, **hyper) -> Path:
    """A ``.ckpt`` as Lightning writes it."""
    from airlam.tasks import ChannelPrediction

    task = ChannelPrediction(model={"backbone": BACKBONE, "num_tokens": 8})
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams) | hyper}, path)
    return path


@pytest.mark.parametrize(
    ("hyper", "words"),
    [
        ({"model": {"backbone": BACKBONE | {"hidden_size": 10**6, "num_attention_heads": 4}}}, "parameters"),
        ({"model": {"backbone": BACKBONE | {"hidden_size": 2048, "intermediate_size": 8192}}}, "not belong together"),
        ({"model": {"max_history": 10**9}}, "max_history must be at most"),
        ({"model": {"num_token": 8}}, "did you mean 'num_tokens'"),
        ({"model": 3}, "mapping|argument"),
        ({"lora_rank": 10**9}, "rank must be at most 1024"),
        ({"kind": "gru", "model": {"width": 65536, "num_layers": 100}}, "parameters"),
        ({"kind": "x" * 5000}, "no comparator"),
    ],
)
def test_lightning_checkpoints_out_of_bounds(hyper, words, tmp_path):
    path = lightning(tmp_path / "run.ckpt", **hyper)
    text = loads_or_is_refused(lambda: load_predictor(path), seconds=5)
    assert text and re.search(words, text), text


def test_lightning_checkpoints_of_nan(tmp_path):
    path = lightning(tmp_path / "run.ckpt")
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["model.head.weight"].fill_(math.nan)
    torch.save(saved, path)
    with pytest.raises(CheckpointError, match="holds NaN or infinity"):
        load_predictor(path)


@pytest.mark.parametrize("load", [load_predictor, load_precoder, load_checkpoint])
def test_a_name_of_many_characters(load):
    with pytest.raises(CheckpointError) as caught:
        load("x" * 5000)
    assert len(str(caught.value)) < 600
