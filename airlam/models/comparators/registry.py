"""Comparators by kind, and in checkpoint folders."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from airlam.interfaces import CheckpointError
from airlam.models.checkpoint import CHECKSUM, check_weights, file_hash, read_config, replace_files
from airlam.models.comparators.comparator import Comparator
from airlam.recipes import nearest

MODEL_TYPE = "airlam-comparator"  # "model_type" in config.json
KINDS = {
    "rnn": ("rnn", "RNNComparator"),
    "gru": ("gru", "GRUComparator"),
    "lstm": ("lstm", "LSTMComparator"),
    "cnn": ("cnn", "CNNComparator"),
    "transformer": ("transformer", "TransformerComparator"),
    "wifo": ("wifo", "WiFoComparator"),
    "llm4cp": ("llm4cp", "LLM4CPComparator"),
    "minilm": ("minilm", "MiniLMComparator"),
    "refined": ("refined", "RefinedComparator"),
}


def build_comparator(kind: str, **arguments: Any) -> Comparator:
    """A comparator by kind: ``rnn``, ``gru``, ``lstm``, ``cnn``, ``transformer``, ``wifo``, ``llm4cp``, ``minilm``,
    ``refined`` (another kind on top of ``eigen-ar``).

    Args:
        arguments: of its class.

    Raises:
        ValueError: no such kind, or a value out of bounds. TypeError: no such argument.

    Example:
        >>> build_comparator("cnn", width=8).config["width"]
        8
    """
    if kind not in KINDS:
        raise ValueError(f"no comparator {kind!r}{nearest(str(kind), KINDS) or ';'} kinds are {', '.join(KINDS)}")
    module, name = KINDS[kind]
    return getattr(import_module(f"airlam.models.comparators.{module}"), name)(**arguments)


def save_comparator(model: Comparator, folder: str | Path) -> Path:
    """Write ``config.json`` and ``model.safetensors``, atomically, for :func:`airlam.load_predictor`."""

    def write(work: Path) -> dict[str, Any]:
        weights = work / "model.safetensors"
        state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        save_file(state, weights, metadata={"format": "pt"})
        trained = [name for name, value in model.named_parameters() if value.requires_grad]
        size = sum(model.get_parameter(name).numel() for name in trained)
        return {
            "model_type": MODEL_TYPE,
            "comparator": model.config,
            "trainable_parameters": size,
            CHECKSUM: file_hash(weights),
        }

    return replace_files(folder, write)


def load_comparator(folder: str | Path) -> Comparator:
    """The comparator that :func:`save_comparator` wrote.

    Raises:
        CheckpointError: foreign, corrupt, or mismatched.
    """
    folder = Path(folder)
    config = read_config(folder)
    if config.get("model_type") != MODEL_TYPE or not isinstance(config.get("comparator"), dict):
        raise CheckpointError(f"{folder} holds no comparator: its model_type is {config.get('model_type')!r}")
    weights = check_weights(folder, config)
    try:
        with torch.random.fork_rng(devices=[]):  # weights that are replaced at once must not move the global generator
            model = build_comparator(**config["comparator"])
        model.load_state_dict(load_file(weights))
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{folder}: config.json and model.safetensors do not belong together ({reason})"
        ) from error
    return model.eval()
