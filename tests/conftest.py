"""Set-up shared by all tests: one thread, no display, no network, repeatable global randomness, paths."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Before anything imports torch, matplotlib or transformers. Several test processes share the cores, so one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests build the models they need; a download would be a bug
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# `python -m pytest` puts the working folder first on sys.path, and from there datasets/ would pass for Hugging Face's
# package of that name. No test may depend on that, nor hide it.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


# The same generated examples in every run: a change fails its own tests and never somebody else's.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def tiny_backbone() -> dict:
    """Settings of a backbone of one layer of width 32, without dropout; what a test changes it puts into a copy."""
    return {
        "model_type": "roberta-prelayernorm",
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 2,
        "eos_token_id": 1,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


@pytest.fixture
def quiet_trainer(tmp_path):
    """``quiet_trainer(max_steps=2)``: a Lightning trainer on the CPU that prints nothing and saves what it is told."""
    import lightning as L

    quiet = {
        "default_root_dir": tmp_path,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return lambda **options: L.Trainer(**(quiet | options))


@pytest.fixture(autouse=True, scope="session")
def _cache_of_its_own(tmp_path_factory):
    """Generated data sets go to a folder of this run, not into the user's cache; child processes inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRLAM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _seed_global_generators():
    """Tests pass explicit generators; where a library draws from a global one, it starts the same every time."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def write_region():
    """Writes a region's file for :class:`airlam.data.CityDataModule`, with random powers on flat ground."""
    import torch
    from safetensors.torch import save_file

    def write(path: Path, users: int = 40, stations: int = 8) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        generator = torch.Generator().manual_seed(len(path.name))
        share = torch.rand(users, stations, 32, 4, generator=generator)
        fields = {
            "position": 100 * torch.rand(users, 3, generator=generator),
            "stations": torch.rand(stations, 4, generator=generator),
            "power": -80 - 20 * torch.rand(users, stations, generator=generator),
            "share": (share / share.sum((2, 3), keepdim=True)).half(),
            "height": torch.zeros(10, 10),
            "corner": torch.tensor([-10.0, -10.0]),
        }
        save_file(fields, path)

    return write
